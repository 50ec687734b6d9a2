/*
 * The surroundings of a case: its folder, paths, whether there is a KVM, the
 * back-ends that it talks to, and the judgements that all cases share.
 */
#include "tests/guest/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[64];
static char texts[1 << 20]; /* of fmt() */
static size_t texts_used;

const char *fmt(const char *format, ...)
{
    char *text = texts + texts_used;
    size_t room = sizeof texts - texts_used;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, room, format, args);
    va_end(args);
    cr_assert(n >= 0 && (size_t)n < room, "too many texts in one case");
    texts_used += (size_t)n + 1;
    return text;
}

const char *built(const char *name)
{
    char self[256];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    cr_assert(n > 0);
    self[n] = 0;
    *strrchr(self, '/') = 0; /* .../tests */
    *strrchr(self, '/') = 0;
    if (strcmp(name, "husk-peer") == 0)
        return fmt("%s/tests/%s", self, name);
    if (strncmp(name, "husk-", 5) == 0)
        return fmt("%s/backends/%s", self, name);
    return fmt("%s/%s", self, name);
}

const char *guest(const char *name)
{
    return built(fmt("guests/%s.elf", name));
}

const char *place(const char *name)
{
    return fmt("%s/%s", folder, name);
}

const char *exec_spec(const char *command)
{
    return fmt("exec=%s", built(command));
}

bool sanitized(void)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    return true;
#else
    return false;
#endif
}

bool long_form(void)
{
    const char *form = getenv("LONG");

    return form && strcmp(form, "1") == 0;
}

void harness_init(void)
{
    signal(SIGPIPE, SIG_IGN);
    strcpy(folder, "/tmp/husk-guest-XXXXXX");
    cr_assert(mkdtemp(folder), "%s: %s", folder, strerror(errno));
}

void harness_init_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = -1;

    if (fd < 0)
        cr_skip_test("/dev/kvm: %s", strerror(errno));
    vm = ioctl(fd, KVM_CREATE_VM, 0);
    if (vm < 0)
        cr_skip_test("KVM_CREATE_VM: %s", strerror(errno));
    close(vm);
    close(fd);
    harness_init();
}

static int remove_one(const char *path, const struct stat *st, int type,
                      struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void harness_fini(void)
{
    if (folder[0])
        nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void backend_start_argv(struct backend *backend, const char *program,
                        const char *listen_option, const char *const *args)
{
    static unsigned sockets;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *argv[64] = { built(program) };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    size_t n = 2;

    memset(backend, 0, sizeof *backend);
    backend->socket = place(fmt("socket%u", sockets++));
    cr_assert(strlen(backend->socket) < sizeof address.sun_path);
    strcpy(address.sun_path, backend->socket);
    cr_assert(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                  listen(fd, 8) == 0,
              "%s: %s", backend->socket, strerror(errno));
    argv[1] = fmt("%s=%d", listen_option, fd);
    for (; *args && n < sizeof argv / sizeof argv[0] - 1; args++)
        argv[n++] = *args;
    run_start(&backend->run, argv);
    close(fd);
}

void backend_stop(struct backend *backend)
{
    kill(backend->run.pid, SIGTERM);
    run_end(&backend->run);
}

void backend_end(struct backend *backend)
{
    run_end(&backend->run);
}

static json_t *member(const struct run *run, const char *key)
{
    json_t *value = run->record ? json_object_get(run->record, key) : NULL;

    cr_assert(run->record, "no record; stderr '%s'", run->err);
    cr_assert(value, "the record has no %s", key);
    return value;
}

long long record_int(const struct run *run, const char *object, const char *key)
{
    json_t *value =
        object ? json_object_get(member(run, object), key) : member(run, key);

    cr_assert(json_is_integer(value), "%s in the record is no number", key);
    return json_integer_value(value);
}

double record_ms(const struct run *run, const char *key)
{
    json_t *value = json_object_get(member(run, "times_ms"), key);

    cr_assert(json_is_real(value), "times_ms.%s is no number", key);
    return json_real_value(value);
}

const char *record_text(const struct run *run, const char *key)
{
    const char *text = json_string_value(member(run, key));

    cr_assert(text, "%s in the record is no text", key);
    return text;
}

json_t *record_device(const struct run *run, unsigned index)
{
    json_t *device = json_array_get(member(run, "devices"), index);

    cr_assert(device, "the record has no device %u", index);
    return device;
}

long long device_int(const struct run *run, unsigned index, const char *key)
{
    json_t *value = json_object_get(record_device(run, index), key);

    cr_assert(json_is_integer(value), "device %u has no number %s", index, key);
    return json_integer_value(value);
}

void check_end(const struct run *run, int status, const char *outcome)
{
    cr_assert(run->status == status,
              "status %d, not %d; stderr '%s'; stdout ends '%s'", run->status,
              status, run->err,
              run->out + (run->out_size > 400 ? run->out_size - 400 : 0));
    CHECK_STR(record_text(run, "outcome"), outcome);
    CHECK_EQ(record_int(run, NULL, "status"), status);
}

void check_quiet_end(const struct run *run, int status, const char *outcome)
{
    check_end(run, status, outcome);
    CHECK_STR(run->err, "");
}

void check_line_argv(const struct run *run, const char *const *words)
{
    const char *end = strchr(run->err, '\n');

    cr_assert(strncmp(run->err, "husk: ", 6) == 0 && end && !end[1],
              "not one line of husk's: '%s'", run->err);
    for (; *words; words++)
        cr_assert(strstr(run->err, *words), "no '%s' in '%s'", *words,
                  run->err);
}

void check_out(const struct run *run, const char *text)
{
    cr_assert(strstr(run->out, text), "no '%s' in '%s'; stderr '%s'", text,
              run->out, run->err);
}

unsigned count_text(const char *in, const char *text)
{
    unsigned n = 0;

    for (const char *at = in; (at = strstr(at, text)); at += strlen(text))
        n++;
    return n;
}

static unsigned count_entries(const char *path)
{
    DIR *dir = opendir(path);
    unsigned n = 0;

    cr_assert(dir, "%s: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

struct holdings holdings_of(pid_t pid)
{
    const char *base = pid ? fmt("/proc/%d", pid) : "/proc/self";
    FILE *maps = fopen(fmt("%s/maps", base), "re");
    struct holdings h = { 0 };

    cr_assert(maps);
    for (int c; (c = fgetc(maps)) != EOF;)
        h.maps += c == '\n';
    fclose(maps);
    h.fds = count_entries(fmt("%s/fd", base));
    h.threads = count_entries(fmt("%s/task", base));
    return h;
}

/*
 * A device's thread for calls that may block comes and goes, and the C library
 * keeps the stacks of threads that are gone: a leak is more than that.
 */
bool same_holdings(struct holdings before, struct holdings after)
{
    return before.fds == after.fds && after.threads <= before.threads + 1 &&
           (after.maps <= before.maps + STACKS || sanitized());
}
