/* On purpose fatal: the low half of a 64-bit member is loaded, and on newer kernels the member has 32 bits.
 *
 * On old kernels dl_rq.dl_nr_running is an unsigned long and its half is as good as the whole. Later it
 * became an unsigned int. A load is resized only if its own width is that of the local member; here it is
 * not, so the loader gives up on the whole object, where it would have poisoned a missing member.
 *
 * Targets: bpfel
 */
#include "core.h"

struct dl_rq {
	unsigned long dl_nr_running;
} core;

struct rq {
	unsigned int nr_running;
	struct dl_rq dl;
} core;

u32 deadline_tasks = 0;

SEC("fentry/pick_next_task_fair")
int low_half(u64 *ctx)
{
	struct rq *rq = (void *)ctx[0];

	deadline_tasks = *(volatile u32 *)&rq->dl.dl_nr_running;
	return rq->nr_running != 0;
}

LICENSE;
