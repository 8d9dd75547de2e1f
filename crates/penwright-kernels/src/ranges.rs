//! Parts of a slice by a list of ranges, for tasks that own pieces of differing length.

use std::marker::PhantomData;
use std::ops::Range;

use crate::parts::Parts;

/// See [`ranges_mut`].
pub struct RangesMut<'a, T> {
    data: *mut T,
    ranges: &'a [Range<usize>],
    borrow: PhantomData<&'a mut [T]>,
}

/// The ranges of a slice, to write; part i is range i. Panics when they are not in order, overlap or leave the slice.
pub fn ranges_mut<'a, T: Send>(slice: &'a mut [T], ranges: &'a [Range<usize>]) -> RangesMut<'a, T> {
    let mut end = 0;
    for range in ranges {
        assert!(range.start >= end && range.end >= range.start, "ranges are out of order");
        end = range.end;
    }
    assert!(end <= slice.len(), "a range exceeds its slice");
    RangesMut { data: slice.as_mut_ptr(), ranges, borrow: PhantomData }
}

// SAFETY: it is an exclusive borrow of a slice whose elements may go to other threads, handed out in disjoint parts.
unsafe impl<T: Send> Sync for RangesMut<'_, T> {}

// SAFETY: `ranges_mut` has checked that no two ranges share an element; the list is borrowed, so it stays as it is.
unsafe impl<'a, T: Send> Parts for RangesMut<'a, T> {
    type Part = &'a mut [T];

    fn count(&self) -> usize {
        self.ranges.len()
    }

    unsafe fn part(&self, i: usize) -> &'a mut [T] {
        let range = &self.ranges[i];
        // SAFETY: the range lies in the slice borrowed for 'a, and no other part shares an element with it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::each;

    #[test]
    fn every_range_is_its_task_s_own() {
        let mut data = vec![0; 40];
        each(ranges_mut(&mut data, &[2..5, 5..5, 5..20, 31..40]), |i, part| part.iter_mut().for_each(|x| *x += i + 1));
        for (at, x) in data.iter().enumerate() {
            let expected =
                [(2..5, 1), (5..20, 3), (31..40, 4)].iter().find(|(r, _)| r.contains(&at)).map_or(0, |p| p.1);
            assert_eq!(*x, expected, "{at}");
        }
    }

    #[test]
    fn ranges_that_overlap_or_leave_the_slice_are_refused() {
        for wrong in [vec![0..3, 2..4], vec![3..4, 0..2], vec![0..4, 4..9]] {
            let refused = std::panic::catch_unwind(|| ranges_mut(&mut [0u8; 8], &wrong).count());
            assert!(refused.is_err(), "{wrong:?}");
        }
    }
}
