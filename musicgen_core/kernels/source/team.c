/* Threads that carry out one function together, and wait for each other often.
 *
 * A step waits some three hundred times. So a waiting thread first spins, for as long as a wait usually takes, and then
 * sleeps: beside a busy process, spinning longer would take the core from the thread that is waited for.
 */
#include "kernels.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifdef __x86_64__
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ volatile("yield")
#else
#define RELAX() ((void)0)
#endif

enum { SPINS = 2000, LINE = 64 };

struct team {
    /* What all members write often lies in cache lines of its own. */
    _Alignas(LINE) atomic_int_fast64_t next;
    _Alignas(LINE) atomic_int arrived;
    _Alignas(LINE) atomic_uint round; /* counts the waits that have ended */
    _Alignas(LINE) atomic_int sleepers;
    _Alignas(LINE) int members;
    int ending;
    void (*work)(void *context, int member);
    void *context;
    pthread_mutex_t use; /* held by the caller for whom the team works */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t *threads;
};

struct member {
    struct team *team;
    int number;
};

static void wait_for_round_after(struct team *team, unsigned round) {
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load_explicit(&team->round, memory_order_acquire) != round) return;
        RELAX();
    }
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(&team->round) == round) pthread_cond_wait(&team->changed, &team->mutex);
    atomic_fetch_sub(&team->sleepers, 1);
    pthread_mutex_unlock(&team->mutex);
}

void team_wait(struct team *team) {
    unsigned round = atomic_load(&team->round);
    if (atomic_fetch_add(&team->arrived, 1) + 1 < team->members) {
        wait_for_round_after(team, round);
        return;
    }
    atomic_store(&team->arrived, 0);
    atomic_store(&team->next, 0);
    atomic_fetch_add(&team->round, 1);
    if (atomic_load(&team->sleepers)) {
        pthread_mutex_lock(&team->mutex);
        pthread_cond_broadcast(&team->changed);
        pthread_mutex_unlock(&team->mutex);
    }
}

int64_t team_take(struct team *team) { return atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed); }

int team_size(const struct team *team) { return team->members; }

static void *be_member(void *argument) {
    struct member member = *(struct member *)argument;
    struct team *team = member.team;
    free(argument);
    for (;;) {
        team_wait(team); /* for work */
        if (team->ending) return NULL;
        team->work(team->context, member.number);
        team_wait(team); /* for the others to end it */
    }
}

void team_run(struct team *team, void (*work)(void *context, int member), void *context) {
    pthread_mutex_lock(&team->use);
    team->work = work;
    team->context = context;
    team_wait(team);
    work(context, 0);
    team_wait(team);
    pthread_mutex_unlock(&team->use);
}

struct team *team_start(int members) {
    struct team *team = allocate(sizeof *team);
    atomic_init(&team->next, 0);
    atomic_init(&team->arrived, 0);
    atomic_init(&team->round, 0);
    atomic_init(&team->sleepers, 0);
    team->members = members;
    pthread_mutex_init(&team->use, NULL);
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->changed, NULL);
    team->threads = calloc((size_t)members, sizeof *team->threads);
    for (int number = 1; number < members; number++) {
        struct member *member = malloc(sizeof *member);
        *member = (struct member){team, number};
        if (pthread_create(&team->threads[number], NULL, be_member, member) != 0) {
            /* Those that exist are waiting for work: they do it without the rest. */
            free(member);
            pthread_mutex_lock(&team->mutex);
            team->members = number;
            pthread_mutex_unlock(&team->mutex);
            break;
        }
    }
    return team;
}

void team_end(struct team *team) {
    pthread_mutex_lock(&team->use);
    team->ending = 1;
    team_wait(team);
    for (int number = 1; number < team->members; number++) pthread_join(team->threads[number], NULL);
    pthread_mutex_unlock(&team->use);
    free(team->threads);
    free(team);
}
