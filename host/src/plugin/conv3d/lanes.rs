//! A register of numbers, in each instruction set that the convolution's loops are compiled for.

/// A register of several numbers.
///
/// Every function is sound only if the processor has the instruction set. The loops are inlined into a function per set,
/// and the caller checks the processor before it calls that function.
pub(super) trait Lanes: Copy {
    type Element: Copy + Default;
    /// Numbers in it.
    const COUNT: usize;

    /// # Safety
    /// The processor must have the instruction set.
    unsafe fn splat(value: Self::Element) -> Self;

    /// # Safety
    /// As above, and `COUNT` elements must be readable.
    unsafe fn load(from: *const Self::Element) -> Self;

    /// # Safety
    /// As above, and `COUNT` elements must be writable.
    unsafe fn store(self, to: *mut Self::Element);

    /// `self * factor + sum`
    ///
    /// # Safety
    /// The processor must have the instruction set.
    unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self;
}

/// Eight numbers in whatever registers the compiler finds.
#[derive(Clone, Copy)]
pub(super) struct Portable<T>([T; 8]);

impl<T> Lanes for Portable<T>
where
    T: Copy + Default + std::ops::Mul<Output = T> + std::ops::Add<Output = T>,
{
    type Element = T;
    const COUNT: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: eight elements are readable, by the caller's promise.
        Self(unsafe { from.cast::<[T; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: eight elements are writable, by the caller's promise.
        unsafe { to.cast::<[T; 8]>().write_unaligned(self.0) };
    }

    #[inline(always)]
    unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i] + sum.0[i]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    macro_rules! lanes {
        ($register:ident, $count:literal, $splat:ident, $load:ident, $store:ident, $fma:ident) => {
            impl Lanes for $register {
                type Element = f32;
                const COUNT: usize = $count;

                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: the processor has the instruction set, by the caller's promise.
                    unsafe { $splat(value) }
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: as above, and the elements are readable.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: as above, and the elements are writable.
                    unsafe { $store(to, self) };
                }

                #[inline(always)]
                unsafe fn multiply_add(self, factor: Self, sum: Self) -> Self {
                    // SAFETY: the processor has the instruction set, by the caller's promise.
                    unsafe { $fma(self, factor, sum) }
                }
            }
        };
    }

    lanes!(__m512, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);
    lanes!(__m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);
}
