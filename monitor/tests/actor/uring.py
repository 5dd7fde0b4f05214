# Opens and reads a file through io_uring alone: argv is the file and `plain`, `sqpoll` or `direct`.
# `direct` opens into the ring's own table, so that no descriptor of the process ever names the file.
import ctypes, mmap, os, struct, sys, time

path, way = sys.argv[1], sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
SETUP, ENTER, REGISTER = 425, 426, 427
SQPOLL, GETEVENTS, WAKEUP = 2, 1, 2
OPENAT, READ, REGISTER_FILES, FIXED_FILE = 18, 22, 2, 1


def call(*args):
    result = libc.syscall(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), 'io_uring')
    return result


params = ctypes.create_string_buffer(120)
struct.pack_into('<IIIII', params, 0, 0, 0, SQPOLL if way == 'sqpoll' else 0, 0, 100)
ring = call(SETUP, 8, params)
# struct io_uring_params: sq_entries, cq_entries, flags, .., sq_off at 40, cq_off at 80.
sq = struct.unpack_from('<10I', params, 40)
cq = struct.unpack_from('<10I', params, 80)
entries = struct.unpack_from('<I', params, 0)[0]
rings = mmap.mmap(ring, 4096 * 4, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
sqes = mmap.mmap(ring, entries * 64, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE,
                 offset=0x10000000)


def word(at):
    return struct.unpack_from('<I', rings, at)[0]


def run(opcode, flags, fd, offset, address, length, open_flags=0, slot=0):
    tail = word(sq[1])
    index = tail & word(sq[2])
    struct.pack_into('<BBHiQQIIQHHIQQ', sqes, index * 64, opcode, flags, 0, fd, offset, address,
                     length, open_flags, 42, 0, 0, slot, 0, 0)
    struct.pack_into('<I', rings, sq[6] + index * 4, index)
    struct.pack_into('<I', rings, sq[1], tail + 1)
    call(ENTER, ring, 1, 1, GETEVENTS | (WAKEUP if way == 'sqpoll' else 0), None, 0)
    head = word(cq[0])
    while head == word(cq[1]):
        time.sleep(0.001)
    result = struct.unpack_from('<i', rings, cq[5] + (head & word(cq[2])) * 16 + 8)[0]
    struct.pack_into('<I', rings, cq[0], head + 1)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


name = ctypes.create_string_buffer(path.encode())
slot = 0
if way == 'direct':
    table = (ctypes.c_int * 4)(-1, -1, -1, -1)
    call(REGISTER, ring, REGISTER_FILES, table, 4)
    slot = 3
fd = run(OPENAT, 0, -100, 0, ctypes.addressof(name), 0, os.O_RDONLY, slot)
if way == 'direct':
    fd = slot - 1
buffer = ctypes.create_string_buffer(100000)
offset = 0
while True:
    flags = FIXED_FILE if way == 'direct' else 0
    got = run(READ, flags, fd, offset, ctypes.addressof(buffer), len(buffer))
    if got == 0:
        break
    offset += got
