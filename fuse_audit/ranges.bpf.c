/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
 *
 * Which pages of which file a process was given, past the daemon (policy `ranges`).
 *
 * A file that is passed through is read from the page cache of the filesystem below, or past it
 * with O_DIRECT. The kernel has a tracepoint on each of these ways; whatever call or ring a reader
 * uses, it comes by one of them. (Of mappings mappings.py tells.) Pages are gathered as bits per file, process and
 * stretch of 64 pages; whoever harvests puts an empty map in the place of the full one. What
 * cannot be kept is counted as lost, and then whole files are charged.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define PAGE_SHIFT 12
#define STRETCH_SHIFT 6
#define MOST_STRETCHES 256 /* 64 MiB in one call; more is counted as lost */
#define MOST_ENTRIES (1 << 19)

/* As much of the kernel's own structures as is read here; the loader finds where each field is. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct super_block {
    __u32 s_dev;
};
struct inode {
    struct super_block *i_sb;
    unsigned long i_ino;
};
struct address_space {
    struct inode *host;
};
struct file {
    struct inode *f_inode;
};
struct kiocb {
    struct file *ki_filp;
    long long ki_pos;
};
struct iov_iter {
    unsigned long count;
};
#pragma clang attribute pop

struct key {
    __u64 ino;
    __u64 stretch;
    __u32 device;
    __u32 tgid;
    __u32 uid;
    __u32 unused;
};

struct bits {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, MOST_ENTRIES);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct key);
    __type(value, __u64);
} bits_0 SEC(".maps"), bits_1 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 1);
    __type(key, __u32);
    __array(values, struct bits);
} active SEC(".maps") = {.values = {&bits_0}};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 64);
    __type(key, __u32);
    __type(value, __u8);
} devices SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} lost SEC(".maps");

static __always_inline void count_lost(void)
{
    __u32 zero = 0;
    __u64 *count = bpf_map_lookup_elem(&lost, &zero);

    if (count)
        __sync_fetch_and_add(count, 1);
}

static __always_inline void charge(struct inode *inode, __u64 first, __u64 last)
{
    __u32 zero = 0, device;
    struct key key = {};
    __u64 stretch;
    void *map;

    if (!inode)
        return;
    device = inode->i_sb->s_dev;
    if (!bpf_map_lookup_elem(&devices, &device))
        return;
    map = bpf_map_lookup_elem(&active, &zero);
    stretch = first >> STRETCH_SHIFT;
    if (!map || last < first || (last >> STRETCH_SHIFT) - stretch >= MOST_STRETCHES) {
        count_lost();
        return;
    }
    key.ino = inode->i_ino;
    key.device = device;
    key.tgid = bpf_get_current_pid_tgid() >> 32;
    key.uid = bpf_get_current_uid_gid();
    for (int n = 0; n < MOST_STRETCHES && stretch <= last >> STRETCH_SHIFT; n++, stretch++) {
        __u64 base = stretch << STRETCH_SHIFT, pages = ~0ULL, *found;

        if (first > base)
            pages &= ~0ULL << ((first - base) & 63);
        if (last < base + 63)
            pages &= ~0ULL >> ((63 - (last - base)) & 63);
        key.stretch = stretch;
        found = bpf_map_lookup_elem(map, &key);
        if (!found && bpf_map_update_elem(map, &key, &pages, BPF_NOEXIST)) {
            found = bpf_map_lookup_elem(map, &key); /* Another thread was faster. */
            if (!found)
                count_lost();
        }
        if (found && (*found & pages) != pages)
            __sync_fetch_and_or(found, pages);
    }
}

SEC("tp_btf/mm_filemap_get_pages")
int BPF_PROG(on_read, struct address_space *mapping, unsigned long first, unsigned long last)
{
    charge(mapping->host, first, last);
    return 0;
}

SEC("tp_btf/iomap_dio_rw_begin")
int BPF_PROG(on_direct, struct kiocb *iocb, struct iov_iter *iter)
{
    __u64 offset = iocb->ki_pos, size = iter->count;

    if (size)
        charge(iocb->ki_filp->f_inode, offset >> PAGE_SHIFT, (offset + size - 1) >> PAGE_SHIFT);
    return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
