//! Names of file systems, by their magic numbers (include/uapi/linux/magic.h, and the sources of
//! those that have none there).

/// The name of the file system with this `s_magic`; nothing for one that is not known.
pub(super) const fn name(magic: u64) -> Option<&'static str> {
    Some(match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x794c_7630 => "overlay",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "cifs",
        0x6573_5546 => "fuse",
        0x9fa0 => "proc",
        0x6265_6572 => "sysfs",
        0x0027_e0eb | 0x6367_7270 => "cgroup",
        0xcafe_4a11 => "bpf",
        0x4d44 => "vfat",
        0x2011_bab0 => "exfat",
        0x7366_746e | 0x5346_544e => "ntfs",
        0x9660 => "iso9660",
        0x1501_3346 => "udf",
        0x7371_7368 => "squashfs",
        0x2fc1_2fc1 => "zfs",
        0x00c3_6400 => "ceph",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        0x1983_0326 => "beegfs",
        0x0102_1997 => "9p",
        0x5346_414f => "afs",
        0x6264_6576 => "block",
        0x1cd1 => "devpts",
        0x6462_6720 => "debugfs",
        0x7472_6163 => "tracefs",
        0x7363_6673 => "securityfs",
        0x1980_0202 => "mqueue",
        0x9584_58f6 => "hugetlbfs",
        0x5049_5045 => "pipe",
        0x534f_434b => "socket",
        0x6e73_6673 => "nsfs",
        0xf2f5_2010 => "f2fs",
        0xe0f5_e1e2 => "erofs",
        0xca45_1a4e => "bcachefs",
        _ => return None,
    })
}

/// Whether a file system has no files of its own: the kernel makes them up, or mounts others when
/// they are looked at.
pub(super) const fn holds_no_files(magic: u64) -> bool {
    matches!(
        magic,
        0x9fa0 // proc
            | 0x6265_6572 // sysfs
            | 0x0027_e0eb // cgroup
            | 0x6367_7270 // cgroup2
            | 0xcafe_4a11 // bpf
            | 0x1cd1 // devpts
            | 0x6462_6720 // debugfs
            | 0x7472_6163 // tracefs
            | 0x7363_6673 // securityfs
            | 0x6265_6570 // configfs
            | 0x1980_0202 // mqueue
            | 0x6e73_6673 // nsfs
            | 0x6165_676c // pstore
            | 0xde5e_81e4 // efivarfs
            | 0xf97c_ff8c // selinuxfs
            | 0x4249_4e4d // binfmt_misc
            | 0x0187 // autofs
    )
}
