/* Three generations of one member, chosen at load time: inode.i_atime, __i_atime (6.7), i_atime_sec (6.11).
 *
 * The oldest two are structs, the newest is a plain integer, and the dentry's inline name changed from
 * an array to a union with the array inside. Programs of the kinds lsm, fentry and fexit.
 *
 * Targets: bpfel
 */
#include "core.h"

typedef s64 time64_t;

struct timespec64 {
	time64_t tv_sec;
	long tv_nsec;
} core;

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
	time64_t i_atime_sec;
} core;

struct inode___renamed {
	struct timespec64 __i_atime;
} core;

struct inode___old {
	struct timespec64 i_atime;
} core;

union shortname_store {
	unsigned char string[40];
} core;

struct dentry {
	union shortname_store d_shortname;
} core;

struct dentry___old {
	unsigned char d_iname[32];
} core;

struct path {
	struct dentry *dentry;
} core;

struct file {
	unsigned int f_flags;
	struct inode *f_inode;
	struct path f_path;
} core;

struct event {
	u64 ino;
	s64 atime;
	u32 flags;
	u16 mode;
	char name[32];
};

struct {
	MAP_PARAM(type, MAP_RINGBUF);
	MAP_PARAM(max_entries, 65536);
} events SEC(".maps");

static inline_always s64 atime_of(struct inode *inode)
{
	if (field_exists(inode->i_atime_sec))
		return READ(inode, i_atime_sec);
	if (field_exists(MEMBER(struct inode___renamed, __i_atime)))
		return READ((struct inode___renamed *)inode, __i_atime.tv_sec);
	return READ((struct inode___old *)inode, i_atime.tv_sec);
}

static inline_always void report(struct file *file)
{
	struct inode *inode = READ(file, f_inode);
	struct dentry *dentry = READ(file, f_path.dentry);
	struct event event = {};

	event.ino = READ(inode, i_ino);
	event.mode = READ(inode, i_mode);
	event.flags = READ(file, f_flags);
	event.atime = atime_of(inode);
	if (field_exists(dentry->d_shortname))
		READ_STR(event.name, dentry, d_shortname.string);
	else
		READ_STR(event.name, (struct dentry___old *)dentry, d_iname);
	ringbuf_output(&events, &event, sizeof(event), 0);
}

SEC("lsm/file_open")
int file_open(u64 *ctx)
{
	report((void *)ctx[0]);
	return 0;
}

SEC("fentry/vfs_read")
int read_enter(u64 *ctx)
{
	report((void *)ctx[0]);
	return 0;
}

/* The traced function's result follows its four arguments. */
SEC("fexit/vfs_read")
int read_exit(u64 *ctx)
{
	if ((s64)ctx[4] > 0)
		report((void *)ctx[0]);
	return 0;
}

LICENSE;
