/* Another time of day for one process: clocks that tell it are CLOCK_SHIFT_SECONDS off, all others are as they are.
 * Waits until a time of day are waits until the real one. libfaketime knows nothing of cnd_timedwait, and librdkafka waits
 * a day in it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <errno.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { TIME_OF_DAY_SECONDS_MIN = 1000000000 }; /* what is below counts from the start of the machine */

static time_t shift(void) {
    static long seconds;
    static int known;
    if (!known) {
        const char *text = getenv("CLOCK_SHIFT_SECONDS");
        seconds = text ? atol(text) : 0;
        known = 1;
    }
    return (time_t)seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return failed;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec at;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &at)) return -1;
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (into) *into = at.tv_sec;
    return at.tv_sec;
}

static clockid_t real(struct timespec *until) {
    if (until->tv_sec < TIME_OF_DAY_SECONDS_MIN) return CLOCK_MONOTONIC;
    until->tv_sec -= shift();
    return CLOCK_REALTIME;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, const struct timespec *restrict given) {
    struct timespec until = *given;
    clockid_t clock = real(&until);
    return pthread_cond_clockwait(cond, mutex, clock, &until);
}

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict given) {
    /* In the GNU library they are the same things under other names. */
    switch (pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, given)) {
    case 0: return thrd_success;
    case ETIMEDOUT: return thrd_timedout;
    default: return thrd_error;
    }
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict given) {
    struct timespec until = *given;
    clockid_t clock = real(&until);
    return sem_clockwait(semaphore, clock, &until);
}
