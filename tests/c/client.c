/*
 * A client in C that sends the sync word: client ADDRESS HOW WORDS
 *
 * HOW is "plain" (the kernel attaches credentials, if the server asks),
 * "explicit" (this program does) or "split" (plain, a byte at a time).  Sends
 * the words after it, and prints all that the server answers.
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void send_word(int fd, int explicit)
{
	int word = 0x11223344;
	struct ucred me = { getpid(), getuid(), getgid() };
	union {
		char room[CMSG_SPACE(sizeof me)];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec data = { &word, sizeof word };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (explicit) {
		struct cmsghdr *header;

		message.msg_control = control.room;
		message.msg_controllen = sizeof control.room;
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_CREDENTIALS;
		header->cmsg_len = CMSG_LEN(sizeof me);
		memcpy(CMSG_DATA(header), &me, sizeof me);
	}
	if (sendmsg(fd, &message, 0) != sizeof word)
		err(1, "sendmsg");
}

static void send_split(int fd)
{
	int word = 0x11223344;
	size_t i;

	for (i = 0; i < sizeof word; i++) {
		if (send(fd, (char *)&word + i, 1, 0) != 1)
			err(1, "send");
		usleep(1000);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	char answer[1024];
	ssize_t count;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (argc != 4)
		errx(2, "usage: client ADDRESS plain|explicit|split WORDS");
	strncpy(name.sun_path, argv[1], sizeof name.sun_path - 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name) < 0)
		err(1, "%s", argv[1]);
	if (strcmp(argv[2], "split") == 0)
		send_split(fd);
	else
		send_word(fd, strcmp(argv[2], "explicit") == 0);
	if (send(fd, argv[3], strlen(argv[3]), 0) < 0 || shutdown(fd, SHUT_WR) < 0)
		err(1, "send");
	while ((count = recv(fd, answer, sizeof answer, 0)) > 0)
		fwrite(answer, 1, count, stdout);
	return count < 0;
}
