/* What the C library says of names and addresses; compiled with glibc and with musl. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void name_of(const char *text)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    char name[256];
    inet_pton(AF_INET, text, &address.sin_addr);
    int failed = getnameinfo((void *)&address, sizeof address, name, sizeof name, NULL, 0, NI_NAMEREQD);
    printf("%s = %s\n", text, failed ? "none" : name);
}

int main(int count, char **words)
{
    for (int i = 1; i < count; i++) {
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
        if (strspn(words[i], "0123456789.") == strlen(words[i])) {
            name_of(words[i]);
            continue;
        }
        int failed = getaddrinfo(words[i], NULL, &hints, &found);
        printf("%s", words[i]);
        if (failed)
            printf(" %s", failed == EAI_NONAME ? "none" : gai_strerror(failed));
        for (; found; found = found->ai_next) {
            char text[INET6_ADDRSTRLEN];
            getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
            printf(" %s", text);
        }
        printf("\n");
    }
    return 0;
}
