use std::sync::Arc;

/// What an item weighs in a channel that is bounded in bytes.
pub trait Weigh {
    /// Bytes that the item keeps in memory for its receiver. It is asked once, when the item is sent.
    fn weight_bytes(&self) -> usize;
}

macro_rules! weigh_by_size {
    ($($type:ty),* $(,)?) => {$(
        impl Weigh for $type {
            fn weight_bytes(&self) -> usize {
                size_of::<$type>()
            }
        }
    )*};
}

weigh_by_size!((), bool, char, u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, f32, f64);

/// Counts the vector's own memory, not what its elements point to.
impl<T> Weigh for Vec<T> {
    fn weight_bytes(&self) -> usize {
        self.len() * size_of::<T>()
    }
}

impl Weigh for String {
    fn weight_bytes(&self) -> usize {
        self.len()
    }
}

impl Weigh for bytes::Bytes {
    fn weight_bytes(&self) -> usize {
        self.len()
    }
}

impl Weigh for arrow_buffer::Buffer {
    fn weight_bytes(&self) -> usize {
        self.len()
    }
}

impl<T: Weigh + ?Sized> Weigh for Box<T> {
    fn weight_bytes(&self) -> usize {
        (**self).weight_bytes()
    }
}

impl<T: Weigh + ?Sized> Weigh for Arc<T> {
    fn weight_bytes(&self) -> usize {
        (**self).weight_bytes()
    }
}

impl<T: Weigh> Weigh for Option<T> {
    fn weight_bytes(&self) -> usize {
        self.as_ref().map_or(0, T::weight_bytes)
    }
}

/// A failure weighs nothing.
impl<T: Weigh, E> Weigh for Result<T, E> {
    fn weight_bytes(&self) -> usize {
        self.as_ref().map_or(0, T::weight_bytes)
    }
}

impl<A: Weigh, B: Weigh> Weigh for (A, B) {
    fn weight_bytes(&self) -> usize {
        self.0.weight_bytes().saturating_add(self.1.weight_bytes())
    }
}
