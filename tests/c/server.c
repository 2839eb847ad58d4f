/*
 * A server in C that asks for credentials: server ADDRESS early|late
 *
 * Takes one connection, reads the sync word with the credentials of its sender,
 * and sends back "PID UID GID" in a line, and then what else comes.  "early"
 * asks before it listens; "late" when the message may have come already, after
 * a line on its standard input.  Prints a line when it listens, and one when it
 * has accepted.
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void ask(int fd)
{
	int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
		err(1, "SO_PASSCRED");
}

static struct ucred read_sender(int fd)
{
	int word = 0;
	struct ucred sender;
	union {
		char room[CMSG_SPACE(sizeof sender)];
		struct cmsghdr align;
	} control;
	struct iovec data = { &word, sizeof word };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = control.room, .msg_controllen = sizeof control.room,
	};
	struct cmsghdr *header;

	if (recvmsg(fd, &message, MSG_WAITALL) != sizeof word)
		err(1, "recvmsg");
	if (word != 0x11223344)
		errx(1, "not the sync word: %x", word);
	header = CMSG_FIRSTHDR(&message);
	if (header == NULL || header->cmsg_level != SOL_SOCKET ||
	    header->cmsg_type != SCM_CREDENTIALS ||
	    header->cmsg_len != CMSG_LEN(sizeof sender))
		errx(1, "no credentials");
	memcpy(&sender, CMSG_DATA(header), sizeof sender);
	return sender;
}

int main(int argc, char **argv)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct ucred sender;
	char buffer[1024];
	ssize_t count;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), late, peer;

	if (argc != 3)
		errx(2, "usage: server ADDRESS early|late");
	late = strcmp(argv[2], "late") == 0;
	strncpy(name.sun_path, argv[1], sizeof name.sun_path - 1);
	if (!late)
		ask(fd);
	if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) < 0 ||
	    listen(fd, 5) < 0)
		err(1, "%s", argv[1]);
	puts("listening");
	fflush(stdout);
	if ((peer = accept(fd, NULL, NULL)) < 0)
		err(1, "accept");
	puts("accepted");
	fflush(stdout);
	if (late) {
		if (fgets(buffer, sizeof buffer, stdin) == NULL)
			errx(1, "nobody has said when");
		ask(peer);
	}
	sender = read_sender(peer);
	dprintf(peer, "%d %u %u\n", sender.pid, sender.uid, sender.gid);
	while ((count = recv(peer, buffer, sizeof buffer, 0)) > 0)
		if (send(peer, buffer, count, 0) < 0)
			err(1, "send");
	return count < 0;
}
