/* On purpose fatal: half of a 64-bit member is loaded, and on newer kernels the member has 32 bits.
 *
 * Up to 5.13 task_struct.state is a long and the load of its low half resolves. This object was written
 * for the new name but with the old width. A load is only resized if its own width is that of the local
 * member; here it is not, so the loader gives up on the whole object instead of poisoning.
 *
 * Targets: bpfel
 */
#include "core.h"

struct task_struct {
	unsigned long __state;
	pid_t pid;
} core;

u32 state = 0;

SEC("tp_btf/sched_switch")
int low_half(u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1];

	state = *(volatile u32 *)&prev->__state;
	return prev->pid;
}

LICENSE;
