/* A program for every effect that a missing field, function or value can have, both arms of each.
 *
 * inode.i_atime is there up to 6.6, inode.i_atime_sec from 6.11 on, bpf_rcu_read_lock() from 6.2 on. Programs read
 * what is not there behind a guard that the verifier understands, behind one that it does not, and behind none.
 *
 * Targets: bpfel bpfeb
 */
#include "../../../workloads/samples/src/core.h"

#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))

struct timespec64 {
	s64 tv_sec;
} core;

struct inode {
	unsigned long i_ino;
	struct timespec64 i_atime;
} core;

struct inode___new {
	s64 i_atime_sec;
} core;

struct file {
	struct inode *f_inode;
} core;

extern int LINUX_KERNEL_VERSION kconfig;
extern bool CONFIG_NUMA kconfig weak;
extern void bpf_rcu_read_lock(void) ksym weak;
extern void bpf_rcu_read_unlock(void) ksym weak;

const volatile bool use_old = 0;
const volatile bool use_new = 1;

s64 last = 0;

static inline_always s64 old_time(struct inode *inode)
{
	return READ(inode, i_atime.tv_sec);
}

static inline_always s64 new_time(struct inode *inode)
{
	return READ((struct inode___new *)inode, i_atime_sec);
}

/* Asks nothing. */
SEC("raw_tp/sys_enter")
int unguarded(u64 *ctx)
{
	last = old_time((void *)ctx[0]);
	return 0;
}

/* One arm for each generation, chosen by what the kernel has: fine everywhere. */
SEC("raw_tp/sys_enter")
int guarded(u64 *ctx)
{
	struct inode *inode = (void *)ctx[0];

	if (field_exists(inode->i_atime))
		last = old_time(inode);
	else
		last = new_time(inode);
	return 0;
}

/* Asks about another field than it reads. */
SEC("raw_tp/sys_enter")
int guarded_by_another(u64 *ctx)
{
	struct inode *inode = (void *)ctx[0];

	if (field_exists(inode->i_ino))
		last = old_time(inode);
	return 0;
}

/* Asks once, and tests the answer twice, with a call of a helper between: the answer is kept. */
SEC("raw_tp/sys_enter")
int guarded_by_variable(u64 *ctx)
{
	struct inode *inode = (void *)ctx[0];
	u64 has_old = field_exists(inode->i_atime);

	asm volatile("" : "+r"(has_old));
	if (has_old)
		last = old_time(inode);
	last += ktime_ns();
	if (!has_old)
		last += new_time(inode);
	return 0;
}

/* The answer goes through memory that other programs can write to: the verifier does not know it any more. */
u64 remembered = 0;

SEC("raw_tp/sys_enter")
int guarded_by_global(u64 *ctx)
{
	struct inode *inode = (void *)ctx[0];

	remembered = field_exists(inode->i_atime);
	asm volatile("" ::: "memory");
	if (remembered)
		last = old_time(inode);
	return 0;
}

/* The answer is an argument of a static function: it is known there. */
static noinline s64 time_if(struct inode *inode, u64 has_old)
{
	asm volatile("" : "+r"(has_old));
	return has_old ? old_time(inode) : 0;
}

SEC("raw_tp/sys_enter")
int guarded_by_argument(u64 *ctx)
{
	struct inode *inode = (void *)ctx[0];

	last = time_if(inode, field_exists(inode->i_atime));
	return 0;
}

/* And of one that the verifier looks at by itself: it is not. */
noinline u64 global_time_if(u64 address, u64 has_old)
{
	asm volatile("" : "+r"(has_old));
	return has_old ? old_time((struct inode *)address) : 0;
}

SEC("raw_tp/sys_enter")
int guarded_by_global_argument(u64 *ctx)
{
	struct inode *inode = (void *)ctx[0];

	last = global_time_if(ctx[0], field_exists(inode->i_atime));
	return 0;
}

/* By the release. */
SEC("raw_tp/sys_enter")
int guarded_by_version(u64 *ctx)
{
	if (LINUX_KERNEL_VERSION < KERNEL_VERSION(6, 7, 0))
		last = old_time((void *)ctx[0]);
	return 0;
}

/* By a constant that the loader may set, off and on. */
SEC("raw_tp/sys_enter")
int off_by_constant(u64 *ctx)
{
	if (use_old)
		last = old_time((void *)ctx[0]);
	return 0;
}

SEC("raw_tp/sys_enter")
int on_by_constant(u64 *ctx)
{
	if (use_new)
		last = new_time((void *)ctx[0]);
	return 0;
}

/* By the configuration, which has to be given. */
SEC("raw_tp/sys_enter")
int guarded_by_config(u64 *ctx)
{
	if (CONFIG_NUMA)
		last = old_time((void *)ctx[0]);
	return 0;
}

/* Whatever the configuration is. */
SEC("raw_tp/sys_enter")
int both_ways_by_config(u64 *ctx)
{
	struct inode *inode = (void *)ctx[0];

	if (CONFIG_NUMA)
		last = 1;
	asm volatile("" ::: "memory");
	last += old_time(inode);
	return 0;
}

/* A weak function, called only where it is there, and anyway. */
SEC("raw_tp/sys_enter")
int weak_guarded(u64 *ctx)
{
	if (bpf_rcu_read_lock) {
		bpf_rcu_read_lock();
		bpf_rcu_read_unlock();
	}
	return 0;
}

SEC("raw_tp/sys_enter")
int weak_unguarded(u64 *ctx)
{
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	return 0;
}

LICENSE;
