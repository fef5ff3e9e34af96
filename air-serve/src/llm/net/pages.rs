//! Where keys and values of past tokens are kept: pages from a pool with a budget.
//!
//! A page holds [`TOKENS`] tokens, of all layers. A sequence takes pages as it grows and gives them back when it is dropped; who decides
//! what happens when there are none left is the engine.

use std::sync::Arc;

use parking_lot::Mutex;

/// Tokens of a page.
pub(crate) const TOKENS: usize = 16;

/// What keys and values of a token look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageShape {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl PageShape {
    /// Numbers of one head in one layer: as many keys, then as many values.
    fn head(self) -> usize {
        2 * TOKENS * self.head_dim
    }

    fn len(self) -> usize {
        self.layers * self.kv_heads * self.head()
    }

    pub(crate) fn page_bytes(self) -> usize {
        self.len() * size_of::<f32>()
    }
}

/// The pool that all sequences of a model share.
#[derive(Debug)]
pub(crate) struct Pool {
    shape: PageShape,
    /// Pages there may be in all.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Pages that sequences have.
    used: usize,
    /// Pages that have been made and are not in use.
    idle: Vec<Box<[f32]>>,
}

impl Pool {
    pub(crate) fn new(shape: PageShape, budget_bytes: usize) -> Arc<Self> {
        let limit = budget_bytes / shape.page_bytes().max(1);
        Arc::new(Pool { shape, limit, state: Mutex::default() })
    }

    /// Pages in all.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Pages that sequences have.
    pub(crate) fn used(&self) -> usize {
        self.state.lock().used
    }

    /// A sequence without tokens.
    pub(crate) fn cache(self: &Arc<Self>) -> Cache {
        Cache { pool: Arc::clone(self), pages: Vec::new(), len: 0 }
    }
}

/// Keys and values of one sequence.
#[derive(Debug)]
pub(crate) struct Cache {
    pool: Arc<Pool>,
    pages: Vec<Box<[f32]>>,
    len: usize,
}

impl Cache {
    /// Takes the pages that so many more tokens need; none, if there are not enough.
    pub(crate) fn make_room(&mut self, tokens: usize) -> bool {
        let more = (self.len + tokens).div_ceil(TOKENS).saturating_sub(self.pages.len());
        let mut state = self.pool.state.lock();
        if more > self.pool.limit - state.used {
            return false;
        }
        state.used += more;
        let again = state.idle.len() - more.min(state.idle.len());
        self.pages.extend(state.idle.drain(again..));
        drop(state);
        let needed = (self.len + tokens).div_ceil(TOKENS);
        // Every number of a page is written before it is read, but for keys beside the last token, which count for nothing if they are finite.
        let fresh = || vec![0.0; self.pool.shape.len()].into();
        self.pages.resize_with(needed.max(self.pages.len()), fresh);
        true
    }

    /// Tokens in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds tokens for which there is room; every layer then writes its part.
    pub(super) fn extend(&mut self, tokens: usize) {
        self.len += tokens;
        debug_assert!(self.len <= self.pages.len() * TOKENS, "there is room for these tokens");
    }

    /// Writes keys and values, `[kv_heads, head_dim]` each, of the token at this position.
    pub(super) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let shape = self.pool.shape;
        let (hd, token) = (shape.head_dim, position % TOKENS);
        let page = &mut self.pages[position / TOKENS][layer * shape.kv_heads * shape.head()..];
        let heads = keys.chunks_exact(hd).zip(values.chunks_exact(hd));
        for ((keys, values), head) in heads.zip(page.chunks_exact_mut(shape.head())) {
            let (k, v) = head.split_at_mut(TOKENS * hd);
            for (k, key) in k.chunks_exact_mut(TOKENS).zip(keys) {
                k[token] = *key;
            }
            v[token * hd..][..hd].copy_from_slice(values);
        }
    }

    /// The pages of one head: keys as `[head_dim, TOKENS]`, then values as `[TOKENS, head_dim]`.
    pub(super) fn head(
        &self,
        layer: usize,
        kv_head: usize,
    ) -> impl Iterator<Item = (&[f32], &[f32])> + Clone {
        let shape = self.pool.shape;
        let at = (layer * shape.kv_heads + kv_head) * shape.head();
        self.pages.iter().map(move |page| page[at..at + shape.head()].split_at(TOKENS * shape.head_dim))
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.used -= self.pages.len();
        state.idle.append(&mut self.pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_and_come_back() {
        let shape = PageShape { layers: 2, kv_heads: 1, head_dim: 4 };
        assert_eq!(shape.page_bytes(), 2 * 2 * 16 * 4 * 4);
        let pool = Pool::new(shape, 5 * shape.page_bytes() + 1);
        assert_eq!((pool.limit(), pool.used()), (5, 0));
        let (mut one, mut two) = (pool.cache(), pool.cache());
        assert!(one.make_room(17) && two.make_room(48));
        assert_eq!(pool.used(), 5);
        one.extend(17);
        assert!(one.make_room(15), "in the pages that it has");
        assert!(!one.make_room(16));
        assert_eq!((one.len(), one.pages.len(), pool.used()), (17, 2, 5));
        drop(two);
        assert!(one.make_room(16));
        assert_eq!((pool.used(), pool.state.lock().idle.len()), (3, 2), "pages are used again");
        drop(one);
        assert_eq!((pool.used(), pool.state.lock().idle.len()), (0, 5));
    }
}
