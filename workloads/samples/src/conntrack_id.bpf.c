/* On purpose fatal: asks for the id of a kernel type that newer kernels have twice.
 *
 * Newer kernels have `struct nf_conn___init` beside `struct nf_conn`, meant as its flavour, so both are
 * candidates for nf_conn. Their ids differ, the answer is ambiguous, and the loader refuses the object.
 * Older kernels have one, and there everything resolves. The second program alone would resolve on both:
 * only nf_conn has the members that it reads.
 *
 * Targets: bpfel bpfeb
 */
#include "core.h"

struct nf_conn {
	unsigned long status;
	u32 mark;
} core;

u64 id = 0;
u64 status = 0;

SEC("tc")
int kernel_id(void *ctx)
{
	id = kernel_type_id(struct nf_conn);
	return 0;
}

SEC("fentry/nf_confirm")
int confirmed(u64 *ctx)
{
	struct nf_conn *conn = (void *)ctx[0];

	status = READ(conn, status);
	if (field_exists(conn->mark))
		status |= (u64)READ(conn, mark) << 32;
	return 0;
}

LICENSE;
