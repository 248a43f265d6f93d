/* What a file system or a library lacks, preloaded: below the folder $LACKING_BELOW there are no locks by flock()
   ($LACKING has "flock", which fails as on Lustre), none by fcntl() ("fcntl", as on NFS without its lock service), and no
   shared mappings ("mmap", as on FUSE with direct_io). Built with SQLITE_VERSION, that is what SQLite says it is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int lacks(const char *what, int fd)
{
    const char *lacking = getenv("LACKING"), *below = getenv("LACKING_BELOW");
    char link[64], path[PATH_MAX];
    if (fd < 0 || !lacking || !below || !strstr(lacking, what))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 0 && !strncmp(path, below, strlen(below));
}

int flock(int fd, int operation)
{
    if (lacks("flock", fd)) {
        errno = ENOSYS;
        return -1;
    }
    return syscall(SYS_flock, fd, operation);
}

static int lock_or_else(int fd, int command, void *argument)
{
    if ((command == F_SETLK || command == F_SETLKW || command == F_GETLK) && lacks("fcntl", fd)) {
        errno = ENOLCK;
        return -1;
    }
    return syscall(SYS_fcntl, fd, command, argument);
}

int fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return lock_or_else(fd, command, argument);
}

int fcntl64(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return lock_or_else(fd, command, argument);
}

void *mmap(void *at, size_t length, int rights, int flags, int fd, off_t offset)
{
    if ((flags & MAP_SHARED) && lacks("mmap", fd)) {
        errno = ENODEV;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, length, rights, flags, fd, offset);
}

void *mmap64(void *at, size_t length, int rights, int flags, int fd, off_t offset)
{
    return mmap(at, length, rights, flags, fd, offset);
}

#ifdef SQLITE_VERSION
const char *sqlite3_libversion(void)
{
    return SQLITE_VERSION;
}
#endif
