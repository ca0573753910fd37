/* A disk that fails on command, for tests: preloaded into the server (LD_PRELOAD), it stands between it and the C library.
 *
 * CONSORT_DISK names a folder of orders:
 *   full    while this file exists, writes to the database and to blobs fail with ENOSPC;
 *   broken  while it exists, fsync and fdatasync fail with EIO, and what was not synced before is not on the disk and never comes
 *           there, although it can still be read: so do Linux and its page cache behave after a failed sync;
 *   image/  what the disk really has of consort.db and consort.db-wal: what a power cut would leave.
 *
 * Only bytes of a successful sync reach the image. Changes of a file's length and its removal reach it at once. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 2, RANGES = 65536, PATH = 4096 };

static const char *const names[FILES] = {"consort.db", "consort.db-wal"};
static struct { off_t offset; size_t length; } unsynced[FILES][RANGES];
static size_t count[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int ordered(const char *order) {
    const char *folder = getenv("CONSORT_DISK");
    char path[PATH];
    if (folder == NULL) return 0;
    snprintf(path, sizeof path, "%s/%s", folder, order);
    return access(path, F_OK) == 0;
}

/* The path of an open file, and which of the two it is: -1 for another one, -2 for one that is not ours at all. */
static int which_path(const char *path) {
    const char *name = strrchr(path, '/');
    if (name == NULL) return -2;
    for (int file = 0; file < FILES; file++)
        if (strcmp(name + 1, names[file]) == 0) return file;
    return strstr(path, "/blobs/") != NULL ? -1 : -2;
}

static int which(int fd) {
    char link[64], path[PATH];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return -2;
    path[length] = 0;
    return which_path(path);
}

static int image(int file) {
    char path[PATH];
    snprintf(path, sizeof path, "%s/image/%s", getenv("CONSORT_DISK"), names[file]);
    return open(path, O_CREAT | O_WRONLY, 0600);
}

static void wrote(int file, off_t offset, size_t length) {
    pthread_mutex_lock(&lock);
    if (count[file] == RANGES) {
        fprintf(stderr, "disk.c: too many writes between two syncs\n");
        abort();
    }
    unsynced[file][count[file]].offset = offset;
    unsynced[file][count[file]++].length = length;
    pthread_mutex_unlock(&lock);
}

static ssize_t write_at(int fd, const void *bytes, size_t length, off_t offset, const char *real) {
    ssize_t (*next)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, real);
    int file = which(fd);
    if (file > -2 && ordered("full")) {
        errno = ENOSPC;
        return -1;
    }
    ssize_t done = next(fd, bytes, length, offset);
    if (file >= 0 && done > 0) wrote(file, offset, (size_t)done);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return write_at(fd, bytes, length, offset, "pwrite");
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    return write_at(fd, bytes, length, offset, "pwrite64");
}

ssize_t write(int fd, const void *bytes, size_t length) {
    static ssize_t (*next)(int, const void *, size_t);
    if (next == NULL) next = dlsym(RTLD_NEXT, "write");
    if (ordered("full") && which(fd) > -2) {
        errno = ENOSPC;
        return -1;
    }
    return next(fd, bytes, length);
}

static int sync_with(int fd, const char *real) {
    int (*next)(int) = dlsym(RTLD_NEXT, real);
    int file = which(fd);
    if (file == -2) return next(fd);
    if (ordered("broken")) {
        pthread_mutex_lock(&lock);
        if (file >= 0) count[file] = 0;
        pthread_mutex_unlock(&lock);
        errno = EIO;
        return -1;
    }
    if (file >= 0 && getenv("CONSORT_DISK") != NULL) {
        static char bytes[1 << 20];
        pthread_mutex_lock(&lock);
        int to = image(file);
        for (size_t n = 0; n < count[file]; n++) {
            size_t length = unsynced[file][n].length;
            ssize_t (*put)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
            for (size_t at = 0; at < length;) {
                size_t part = length - at < sizeof bytes ? length - at : sizeof bytes;
                ssize_t got = pread(fd, bytes, part, unsynced[file][n].offset + (off_t)at);
                if (got <= 0) break;
                put(to, bytes, (size_t)got, unsynced[file][n].offset + (off_t)at);
                at += (size_t)got;
            }
        }
        count[file] = 0;
        close(to);
        pthread_mutex_unlock(&lock);
    }
    return next(fd);
}

int fsync(int fd) { return sync_with(fd, "fsync"); }

int fdatasync(int fd) { return sync_with(fd, "fdatasync"); }

static int cut(int fd, off_t length, const char *real) {
    int (*next)(int, off_t) = dlsym(RTLD_NEXT, real);
    int done = next(fd, length), file = which(fd);
    if (done == 0 && file >= 0 && getenv("CONSORT_DISK") != NULL) {
        int to = image(file);
        next(to, length);
        close(to);
    }
    return done;
}

int ftruncate(int fd, off_t length) { return cut(fd, length, "ftruncate"); }

int ftruncate64(int fd, off_t length) { return cut(fd, length, "ftruncate64"); }

int unlink(const char *path) {
    int (*next)(const char *) = dlsym(RTLD_NEXT, "unlink");
    int done = next(path), file = which_path(path);
    if (done == 0 && file >= 0 && getenv("CONSORT_DISK") != NULL) {
        char gone[PATH];
        snprintf(gone, sizeof gone, "%s/image/%s", getenv("CONSORT_DISK"), names[file]);
        next(gone);
    }
    return done;
}
