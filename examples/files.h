/*
 * examples/files.h - what quantize_safetensors does with files: its input mapped, outputs that
 * appear whole or not at all, and one way to fail.
 *
 * An output is written as <name>.<pid>.tmp beside its name; commit_outputs puts all of them on disk
 * and then renames them. Whatever ends the program before that, an error (die) or a signal, removes
 * them.
 */
#ifndef FP4_EXAMPLES_FILES_H
#define FP4_EXAMPLES_FILES_H

#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* -------------------------------------------------------------------------------- failing */

/* The signal handlers read this table: an entry is filled in before `output_count` counts it. */
typedef struct output {
    char *name, *temporary;
    int fd;
    bool renamed;
} output;

static output outputs[3]; /* the model, and up to two configs */
static volatile sig_atomic_t output_count;
static bool show_progress;

/* Only what a signal handler may do. */
static void remove_outputs(void)
{
    int i;

    for (i = 0; i < output_count; i++) {
        unlink(outputs[i].renamed ? outputs[i].name : outputs[i].temporary);
    }
}

static void on_signal(int number)
{
    remove_outputs();
    signal(number, SIG_DFL);
    raise(number);
}

/* A page of the mapped input could not be read. */
static void on_bus_error(int number)
{
    static const char text[] = "quantize_safetensors: the input shrank or cannot be read\n";

    (void)number;
    remove_outputs();
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) {
        _exit(2);
    }
    _exit(2);
}

static void clear_progress(void)
{
    if (show_progress) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}

__attribute__((format(printf, 1, 2))) static _Noreturn void die(const char *format, ...)
{
    st_error error;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error.text, sizeof error.text, format, arguments);
    va_end(arguments);
    st_make_printable(error.text);
    remove_outputs();
    fflush(stdout);
    clear_progress();
    fprintf(stderr, "quantize_safetensors: %s\n", error.text);
    exit(2);
}

__attribute__((format(printf, 1, 2))) static void warn(const char *format, ...)
{
    st_error error;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error.text, sizeof error.text, format, arguments);
    va_end(arguments);
    st_make_printable(error.text);
    clear_progress();
    fprintf(stderr, "quantize_safetensors: warning: %s\n", error.text);
}

static void handle_signals(void)
{
    static const int fatal[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE};
    struct sigaction action, before;
    size_t i;

    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    for (i = 0; i < sizeof fatal / sizeof fatal[0]; i++) {
        action.sa_handler = on_signal;
        if (sigaction(fatal[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
            sigaction(fatal[i], &action, NULL);
        }
    }
    action.sa_handler = on_bus_error;
    sigaction(SIGBUS, &action, NULL);
    action.sa_handler = SIG_IGN; /* over a file size limit write() shall fail, not kill */
    sigaction(SIGXFSZ, &action, NULL);
}

/* Memory, or the end: so nothing below need ask. `what` names the tensor it is for. */
static void *allocate(size_t bytes, const char *what)
{
    void *p = malloc(bytes == 0 ? 1 : bytes);

    if (p == NULL) {
        die("%s: out of memory (%zu bytes)", what, bytes);
    }
    return p;
}

/* The first `length` bytes of head, and tail. */
static char *join(const char *head, size_t length, const char *tail)
{
    char *text = (char *)allocate(length + strlen(tail) + 1, "a name");

    memcpy(text, head, length);
    strcpy(text + length, tail);
    return text;
}

/* Length of the path up to and including its last slash. */
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? 0 : (size_t)(slash - path) + 1;
}

/* -------------------------------------------------------------------------------- outputs */

/* Opens a temporary file beside `name`, which becomes the table's. */
static void create_output(char *name)
{
    output *o = &outputs[output_count];
    struct stat info;
    char suffix[32];

    if (stat(name, &info) == 0 && !S_ISREG(info.st_mode)) {
        die("%s: not a regular file", name);
    }
    snprintf(suffix, sizeof suffix, ".%ld.tmp", (long)getpid());
    o->name = name;
    o->temporary = join(name, strlen(name), suffix);
    o->renamed = false;
    output_count++;
    o->fd = open(o->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (o->fd < 0) {
        output_count--; /* what may be there under the temporary name is not ours */
        die("%s: cannot be created: %s", name, strerror(errno));
    }
}

/* All of `bytes` at an offset of an output. `what` names the tensor or the file. */
static void write_at(const output *o, const void *bytes, uint64_t size, uint64_t offset,
                     const char *what)
{
    const uint8_t *from = (const uint8_t *)bytes;
    const uint64_t at_most = 1u << 30;

    while (size != 0) {
        const ssize_t n =
            pwrite(o->fd, from, (size_t)(size < at_most ? size : at_most), (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            die("%s: cannot be written to %s: %s", what, o->name,
                n < 0 ? strerror(errno) : "the disk takes no more");
        }
        from += n;
        offset += (uint64_t)n;
        size -= (uint64_t)n;
    }
}

/* Everything is on disk before anything gets its name; the model gets its last. */
static void commit_outputs(void)
{
    int i;

    for (i = 0; i < output_count; i++) {
        if (fsync(outputs[i].fd) != 0 || close(outputs[i].fd) != 0) {
            die("%s: cannot be written: %s", outputs[i].name, strerror(errno));
        }
    }
    for (i = output_count - 1; i >= 0; i--) {
        if (rename(outputs[i].temporary, outputs[i].name) != 0) {
            die("%s: cannot be renamed to: %s", outputs[i].name, strerror(errno));
        }
        outputs[i].renamed = true;
    }
}

static void free_outputs(void)
{
    const int n = output_count;
    int i;

    output_count = 0;
    for (i = 0; i < n; i++) {
        free(outputs[i].name);
        free(outputs[i].temporary);
    }
}

/* -------------------------------------------------------------------------------- input */

typedef struct mapping {
    uint8_t *bytes;
    uint64_t size;
    dev_t device;
    ino_t inode;
} mapping;

static mapping map_input(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    mapping m = {NULL, 0, 0, 0};
    struct stat info;

    if (fd < 0 || fstat(fd, &info) != 0) {
        die("%s: cannot be opened: %s", path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        die("%s: not a regular file", path);
    }
    m.size = (uint64_t)info.st_size;
    m.device = info.st_dev;
    m.inode = info.st_ino;
    if (m.size != 0) {
        void *p = mmap(NULL, (size_t)m.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            die("%s: cannot be mapped: %s", path, strerror(errno));
        }
        m.bytes = (uint8_t *)p;
    }
    close(fd);
    return m;
}

static bool is_same_file(const mapping *m, const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && info.st_dev == m->device && info.st_ino == m->inode;
}

/* The folder that a path lies in is the same. */
static bool is_same_folder(const char *a, const char *b)
{
    char *folders[2];
    struct stat info[2];
    bool same;

    folders[0] = join(a, folder_length(a), ".");
    folders[1] = join(b, folder_length(b), ".");
    same = stat(folders[0], &info[0]) == 0 && stat(folders[1], &info[1]) == 0 &&
           info[0].st_dev == info[1].st_dev && info[0].st_ino == info[1].st_ino;
    free(folders[0]);
    free(folders[1]);
    return same;
}

#endif /* FP4_EXAMPLES_FILES_H */
