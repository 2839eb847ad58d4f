/*
 * The physical limit: an echo server that asks SO_PEERCRED of each connection
 * and does nothing else.  cc -O2 -o server server.c; ./server ADDRESS
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char buffer[65536];

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static void acceptOne(int poller, int listener)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    struct epoll_event event = {.events = EPOLLIN};

    event.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (event.data.fd < 0)
        return;
    if (getsockopt(event.data.fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0
        || peer.uid == (uid_t)-1
        || epoll_ctl(poller, EPOLL_CTL_ADD, event.data.fd, &event) < 0)
        close(event.data.fd);
}

/* Its clients read what they wrote before they write more than fits. */
static void echo(int connection)
{
    ssize_t got = recv(connection, buffer, sizeof buffer, 0), sent = 0;

    while (sent < got) {
        ssize_t more = send(connection, buffer + sent, got - sent, MSG_NOSIGNAL);
        if (more < 0)
            break;
        sent += more;
    }
    if (got <= 0 || sent < got)
        close(connection);
}

int main(int count, char **arguments)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct epoll_event events[64], event = {.events = EPOLLIN};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int poller = epoll_create1(EPOLL_CLOEXEC);

    if (count != 2 || strlen(arguments[1]) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, arguments[1]);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
        return fail("bind");
    if (listen(listener, 1024) < 0)
        return fail("listen");
    event.data.fd = listener;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0)
        return fail("epoll_ctl");
    puts("listening");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poller, events, 64, -1);
        for (int each = 0; each < ready; each++)
            if (events[each].data.fd == listener)
                acceptOne(poller, listener);
            else
                echo(events[each].data.fd);
    }
}
