/* Stands in for libnvidia-ml.so.1. Its hardware are the "key=value" lines of the file $NVML_STUB_SCENARIO, read
 * anew at each call, so that a test can change the hardware while the sidecar runs:
 *
 *   kernel=550, library=550   versions of kernel module and library; no kernel line: the module is not loaded.
 *                             The library's is read once, when it is loaded into a process.
 *   hang=CALL, crash=CALL     that call does not return as long as the line stands, or ends the process
 *   0.hang=CALL, 0.slow=CALL  the same for card 0 alone; it takes 4 s
 *   lock=1                    calls wait for each other, as in a library with one lock
 *   count=N                   cards; 0.uuid, 0.name, 0.total, 0.reserved, 0.used, 0.free, 0.gpu (utilisation),
 *                             0.temperature, 0.power (mW), 0.compute and 0.graphics ("PID:BYTES PID:none")
 *   0.mig=1, 0.mig.max=7      MIG mode; its devices are "cards" named 0.mig.0 and so on
 *   0.inits=2                 card 0 is lost until NVML has been started twice in a process
 *   0.error=15                every call for card 0 fails so; 0.CALL.error=3 one call does
 *
 * A value without a line is not supported. Compiled with OLD_DRIVER, it lacks what older drivers lack.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       DRIVER_NOT_LOADED = 9, LOST = 15, VERSION_MISMATCH = 18, ARGUMENT_VERSION_MISMATCH = 25 };
enum { LINE = 512 };

typedef unsigned long long u64;
typedef struct { char id[48]; } device;
typedef struct { u64 total, free, used; } memory_v1;
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilisation;
typedef struct { unsigned version; int sensor, temperature; } temperature_v1;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } process;

static char library[LINE];
static unsigned inits;

static int lookup(const char *key, char *value) {
    char line[LINE];
    size_t length = strlen(key);
    int found = 0;
    FILE *file = fopen(getenv("NVML_STUB_SCENARIO"), "r");
    if (!file) abort();
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) || line[length] != '=') continue;
        line[strcspn(line, "\n")] = 0;
        strcpy(value, line + length + 1);
        found = 1;
    }
    fclose(file);
    return found;
}

static int lookup_of(const char *id, const char *name, char *value) {
    char key[LINE];
    snprintf(key, sizeof key, "%s.%s", id, name);
    return lookup(key, value);
}

static int number(const char *id, const char *name, u64 *result) {
    char value[LINE];
    if (!lookup_of(id, name, value)) return NOT_SUPPORTED;
    *result = strtoull(value, NULL, 10);
    return OK;
}

static int text(const char *id, const char *name, char *result, unsigned size) {
    char value[LINE];
    if (!lookup_of(id, name, value)) return NOT_SUPPORTED;
    snprintf(result, size, "%s", value);
    return OK;
}

static void misbehave(const char *call) {
    char value[LINE];
    if (lookup("crash", value) && !strcmp(value, call)) _exit(139);
    while (lookup("hang", value) && !strcmp(value, call)) usleep(20000);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void take_time(const char *id, const char *call) {
    char value[LINE];
    int locks = lookup("lock", value);
    if (locks) pthread_mutex_lock(&lock);
    while (lookup_of(id, "hang", value) && !strcmp(value, call)) usleep(20000);
    if (lookup_of(id, "slow", value) && !strcmp(value, call)) sleep(4);
    if (locks) pthread_mutex_unlock(&lock);
}

static int enter(const char *id, const char *call) {
    char value[LINE], name[64];
    misbehave(call);
    take_time(id, call);
    if (!lookup("kernel", value) || strcmp(value, library)) return UNINITIALIZED;
    if (lookup_of(id, "error", value)) return atoi(value);
    if (lookup_of(id, "inits", value) && inits < (unsigned)atoi(value)) return LOST;
    snprintf(name, sizeof name, "%s.error", call);
    return lookup_of(id, name, value) ? atoi(value) : OK;
}

static device *named(const char *id) {
    static device devices[64];
    for (int i = 0; i < 64; i++) {
        if (!devices[i].id[0]) snprintf(devices[i].id, sizeof devices[i].id, "%s", id);
        if (!strcmp(devices[i].id, id)) return &devices[i];
    }
    abort();
}

__attribute__((constructor)) static void loaded(void) {
    if (getenv("NVML_STUB_SCENARIO")) lookup("library", library);
}

int nvmlInitWithFlags(unsigned flags) {
    char value[LINE];
    (void)flags;
    inits++;
    misbehave("init");
    if (!lookup("kernel", value)) return DRIVER_NOT_LOADED;
    return strcmp(value, library) ? VERSION_MISMATCH : OK;
}

int nvmlShutdown(void) { return OK; }

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error of the stand-in";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    char value[LINE];
    int error = enter("driver", "count");
    if (error) return error;
    *count = lookup("count", value) ? (unsigned)atoi(value) : 0;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **handle) {
    char id[16];
    snprintf(id, sizeof id, "%u", index);
    *handle = named(id);
    return enter(id, "handle");
}

int nvmlDeviceGetUUID(device *d, char *result, unsigned size) {
    int error = enter(d->id, "uuid");
    return error ? error : text(d->id, "uuid", result, size);
}

int nvmlDeviceGetName(device *d, char *result, unsigned size) {
    int error = enter(d->id, "name");
    return error ? error : text(d->id, "name", result, size);
}

int nvmlDeviceGetMemoryInfo(device *d, memory_v1 *m) {
    u64 reserved = 0;
    int error = enter(d->id, "memory");
    if (error || (error = number(d->id, "total", &m->total))) return error;
    number(d->id, "free", &m->free);
    number(d->id, "used", &m->used);
    number(d->id, "reserved", &reserved);
    m->used += reserved;
    return OK;
}

int nvmlDeviceGetUtilizationRates(device *d, utilisation *u) {
    u64 value = 0;
    int error = enter(d->id, "utilisation");
    if (error || (error = number(d->id, "gpu", &value))) return error;
    u->gpu = (unsigned)value;
    u->memory = 99;
    return OK;
}

int nvmlDeviceGetTemperature(device *d, int sensor, unsigned *result) {
    u64 value = 0;
    int error = enter(d->id, "temperature");
    (void)sensor;
    if (error || (error = number(d->id, "temperature", &value))) return error;
    *result = (unsigned)value;
    return OK;
}

int nvmlDeviceGetPowerUsage(device *d, unsigned *result) {
    u64 value = 0;
    int error = enter(d->id, "power");
    if (error || (error = number(d->id, "power", &value))) return error;
    *result = (unsigned)value;
    return OK;
}

static int processes(device *d, const char *kind, unsigned *room, process *list) {
    char value[LINE];
    unsigned count = 0;
    int error = enter(d->id, kind);
    if (error) return error;
    if (!lookup_of(d->id, kind, value)) return NOT_SUPPORTED;
    for (char *word = strtok(value, " "); word; word = strtok(NULL, " "), count++) {
        if (count >= *room) continue;
        char *used = strchr(word, ':') + 1;
        memset(&list[count], 0, sizeof *list);
        list[count].pid = (unsigned)atoi(word);
        list[count].used = strcmp(used, "none") ? strtoull(used, NULL, 10) : ~0ULL;
    }
    error = count > *room ? INSUFFICIENT_SIZE : OK;
    *room = count;
    return error;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device *d, unsigned *count, process *list) {
    return processes(d, "compute", count, list);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(device *d, unsigned *count, process *list) {
    return processes(d, "graphics", count, list);
}

int nvmlDeviceGetMigMode(device *d, unsigned *current, unsigned *pending) {
    u64 value = 0;
    int error = enter(d->id, "mig");
    if (error || (error = number(d->id, "mig", &value))) return error;
    *current = *pending = (unsigned)value;
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned *count) {
    u64 value = 0;
    int error = enter(d->id, "mig.max");
    number(d->id, "mig.max", &value);
    *count = (unsigned)value;
    return error;
}

int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned index, device **handle) {
    char id[48], value[LINE];
    snprintf(id, sizeof id, "%.24s.mig.%u", d->id, index);
    if (!lookup_of(id, "uuid", value)) return NOT_FOUND;
    *handle = named(id);
    return enter(d->id, "mig.handle");
}

#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *m) {
    int error = enter(d->id, "memory_v2");
    if (m->version != (2u << 24 | sizeof *m)) return ARGUMENT_VERSION_MISMATCH;
    if (error || (error = number(d->id, "total", &m->total))) return error;
    number(d->id, "reserved", &m->reserved);
    number(d->id, "free", &m->free);
    number(d->id, "used", &m->used);
    return OK;
}

int nvmlDeviceGetTemperatureV(device *d, temperature_v1 *t) {
    unsigned value = 0;
    if (t->version != (1u << 24 | sizeof *t)) return ARGUMENT_VERSION_MISMATCH;
    int error = nvmlDeviceGetTemperature(d, t->sensor, &value);
    t->temperature = (int)value;
    return error;
}
#endif
