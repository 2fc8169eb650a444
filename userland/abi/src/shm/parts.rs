//! An attachment in parts: each area that shows the segment counts; shmdt(2) takes those of its own attachment.

use super::*;

fn protect(at: *mut u8, page: usize, pages: usize, prot: i32) {
    assert_eq!(unsafe { mprotect(at.add(page * PAGE).cast(), pages * PAGE, prot) }, 0);
}

fn unmap(at: *mut u8, page: usize, pages: usize) {
    assert_eq!(unsafe { munmap(at.add(page * PAGE).cast(), pages * PAGE) }, 0);
}

/// What splits a mapping adds to shm_nattch, what unmaps a part takes from it; parts never become one again.
pub fn counted() {
    let segment = Segment::new(8 * PAGE);
    let nattch = || segment.stat().shm_nattch;
    unsafe {
        let at = segment.attach();
        protect(at, 3, 1, PROT_READ);
        assert_eq!(nattch(), 3);
        protect(at, 3, 1, PROT_READ | PROT_WRITE);
        assert_eq!(nattch(), 3, "equal neighbours stay two");
        protect(at, 0, 8, PROT_READ | PROT_WRITE);
        assert_eq!(nattch(), 3);
        unmap(at, 3, 1);
        assert_eq!(nattch(), 2);
        unmap(at, 0, 1);
        assert_eq!(nattch(), 2, "cut at its start");
        unmap(at, 7, 1);
        assert_eq!(nattch(), 2, "and at its end");
        unmap(at, 5, 1);
        assert_eq!(nattch(), 3, "a hole in the middle");
        child_succeeds(|| {
            assert_eq!(nattch(), 6);
            assert_eq!((shmdt(at.cast()), nattch()), (0, 3));
            std::mem::forget(Segment(segment.0));
        });
        assert_eq!(nattch(), 3, "a child's parts go with it");
        assert_eq!((shmdt(at.cast()), nattch()), (0, 0));
        assert_eq!(segment.stat().shm_lpid, getpid());

        // mlock(2) and madvise(2) split too.
        let at = segment.attach();
        assert_eq!((mlock(at.add(PAGE).cast(), PAGE), nattch()), (0, 3));
        assert_eq!((munlock(at.add(PAGE).cast(), PAGE), nattch()), (0, 3));
        assert_eq!((madvise(at.add(4 * PAGE).cast(), 4 * PAGE, MADV_DONTFORK), nattch()), (0, 4));
        child_succeeds(|| {
            assert_eq!(nattch(), 7, "all but the part that is not for children");
            std::mem::forget(Segment(segment.0));
        });
        assert_eq!((shmdt(at.cast()), nattch()), (0, 0));

        // A part that moves leaves its neighbours behind; a length of 0 shows the same once more.
        let at = segment.attach();
        let place = 0x5000_0000_0000usize;
        let moved = mremap(at.add(2 * PAGE).cast(), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
        assert_eq!((moved as usize, nattch()), (place, 3));
        let twice = mremap(at.cast(), 0, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place + 4 * PAGE);
        assert_eq!((twice as usize, nattch()), (place + 4 * PAGE, 4));
        assert_eq!((shmdt(at.cast()), nattch()), (0, 2));
        // Page 2 of the segment is there: where page 0 would be is what shmdt asks for.
        expect_errno(shmdt(moved).into(), EINVAL);
        assert_eq!((shmdt((place - 2 * PAGE) as *const _), nattch()), (0, 1));
        assert_eq!((shmdt(twice), nattch()), (0, 0));

        // Something else over the middle.
        let at = segment.attach();
        let over = at.add(3 * PAGE).cast();
        let anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        assert_eq!(mmap(over, PAGE, PROT_READ, anonymous, -1, 0), over);
        assert_eq!(nattch(), 2);
        assert_eq!((shmdt(at.cast()), nattch(), munmap(over, PAGE)), (0, 0, 0));

        // A removed segment lives as long as any part.
        let doomed = Segment::new(4 * PAGE);
        let at = doomed.attach();
        unmap(at, 1, 1);
        assert_eq!(shmctl(doomed.0, IPC_RMID, null_mut()), 0);
        unmap(at, 0, 1);
        assert_eq!(doomed.stat().shm_nattch, 1);
        *at.add(3 * PAGE) = 7;
        unmap(at, 2, 2);
        expect_errno(shmctl(doomed.0, IPC_STAT, &mut std::mem::zeroed()).into(), EINVAL);
    }
}

/// Parts of another attachment of the same segment stay, wherever they lie; so does what has grown beyond the segment's end.
pub fn own_parts() {
    let segment = Segment::new(4 * PAGE);
    let nattch = || segment.stat().shm_nattch;
    unsafe {
        let (first, second) = (segment.attach(), segment.attach());
        unmap(first, 2, 2);
        let behind = first.add(2 * PAGE);
        let moved = mremap(second.add(2 * PAGE).cast(), 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, behind);
        assert_eq!((moved, nattch()), (behind.cast(), 3));
        *behind = 5;
        assert_eq!((shmdt(first.cast()), nattch()), (0, 2));
        assert_eq!(*behind, 5);
        assert_eq!((shmdt(first.cast()), shmdt(second.cast()), nattch()), (0, 0, 0));

        let small = Segment::new(2 * PAGE);
        let at: *mut u8 = mremap(small.attach().cast(), 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE).cast();
        protect(at, 2, 1, PROT_READ);
        assert_eq!(small.stat().shm_nattch, 3);
        assert_eq!((shmdt(at.cast()), small.stat().shm_nattch), (0, 2));
        expect_errno(shmdt(at.add(2 * PAGE).cast()).into(), EINVAL);
        assert_eq!((shmdt(at.cast()), small.stat().shm_nattch), (0, 1));
        assert_eq!((shmdt(at.cast()), small.stat().shm_nattch), (0, 0));
    }
}
