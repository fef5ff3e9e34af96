//! Where keys and values of past tokens are kept: pages from a pool with a budget.
//!
//! A page holds [`TOKENS`] tokens, of all layers. A sequence takes pages as it grows and gives them back when it is dropped; who decides
//! what happens when there are none left is the engine. Full pages can be shared by sequences that begin alike, and stay when these have ended for as long as nobody
//! needs their memory.

use std::sync::Arc;
use std::{iter, mem};

use parking_lot::Mutex;

use super::prefixes::{Block, Prefixes};

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

/// Numbers of one page. What is in no other's hands may be written.
type Page = Arc<[f32]>;

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
    /// Pages that sequences have, those of several once.
    used: usize,
    /// Pages that have been made and hold nothing.
    idle: Vec<Page>,
    /// Pages that are full, of sequences that go on and of those that have ended.
    prefixes: Prefixes<Page>,
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

    /// Pages that there are.
    #[cfg(test)]
    pub(crate) fn made(&self) -> usize {
        let state = self.state.lock();
        state.used + state.idle.len() + state.prefixes.unused()
    }

    /// A sequence without tokens.
    pub(crate) fn cache(self: &Arc<Self>) -> Cache {
        Cache { pool: Arc::clone(self), pages: Vec::new(), blocks: Vec::new(), len: 0 }
    }
}

/// Keys and values of one sequence.
#[derive(Debug)]
pub(crate) struct Cache {
    pool: Arc<Pool>,
    pages: Vec<Page>,
    /// Its first pages as others find them.
    blocks: Vec<Block>,
    len: usize,
}

impl Cache {
    /// Takes the pages that so many more tokens need, where there is no other memory those of ended sequences; none, if there are not enough.
    pub(crate) fn make_room(&mut self, tokens: usize) -> bool {
        let needed = (self.len + tokens).div_ceil(TOKENS);
        let more = needed.saturating_sub(self.pages.len());
        let mut state = self.pool.state.lock();
        if more > self.pool.limit - state.used {
            return false;
        }
        state.used += more;
        let again = state.idle.len() - more.min(state.idle.len());
        self.pages.extend(state.idle.drain(again..));
        while self.pages.len() < needed && state.used + state.prefixes.unused() > self.pool.limit {
            let Some(page) = state.prefixes.evict() else { break };
            self.pages.push(page);
        }
        drop(state);
        // Every number of a page is written before it is read, but for keys beside the last token, which count for nothing if they are finite.
        let fresh = || iter::repeat_n(0.0, self.pool.shape.len()).collect();
        self.pages.resize_with(needed.max(self.pages.len()), fresh);
        true
    }

    /// Takes over what is there of these tokens, the first of which are those that it has; says how many. The last is left, for what comes after it is asked for.
    pub(crate) fn reuse(&mut self, tokens: &[u32]) -> usize {
        let before = self.len;
        let pool = Arc::clone(&self.pool);
        let mut state = pool.state.lock();
        while let Some(block) = self.ahead(tokens).filter(|_| self.len + TOKENS < tokens.len()) {
            if !self.share(&mut state, block) {
                break;
            }
            self.len += TOKENS;
        }
        self.len - before
    }

    /// Lets others have its full pages; these are its tokens.
    pub(crate) fn publish(&mut self, tokens: &[u32]) {
        if (self.blocks.len() + 1) * TOKENS > self.len {
            return;
        }
        let pool = Arc::clone(&self.pool);
        let mut state = pool.state.lock();
        let blocks = tokens[..self.len].as_chunks::<TOKENS>().0;
        for block in &blocks[self.blocks.len()..] {
            // Another may have read the same meanwhile, which came to the same bits.
            if !self.share(&mut state, *block) {
                let page = Arc::clone(&self.pages[self.blocks.len()]);
                let added = state.prefixes.add(self.blocks.last().copied(), *block, page);
                self.blocks.push(added);
            }
        }
    }

    /// The next whole block of these tokens, and where it belongs, if it begins where its pages end.
    pub(crate) fn next_block(&self, tokens: &[u32]) -> Option<(Option<Block>, [u32; TOKENS])> {
        Some((self.blocks.last().copied(), self.ahead(tokens)?))
    }

    fn ahead(&self, tokens: &[u32]) -> Option<[u32; TOKENS]> {
        let begins = self.len == self.blocks.len() * TOKENS;
        tokens.get(self.len..).filter(|_| begins)?.first_chunk().copied()
    }

    /// Uses the page of this block after those it has, instead of its own, if there is one.
    fn share(&mut self, state: &mut State, tokens: [u32; TOKENS]) -> bool {
        let State { used, idle, prefixes } = state;
        let Some((block, page, first)) = prefixes.take(self.blocks.last().copied(), tokens) else {
            return false;
        };
        let page = Arc::clone(page);
        *used += usize::from(first);
        if let Some(mine) = self.pages.get_mut(self.blocks.len()) {
            idle.push(mem::replace(mine, page));
            *used -= 1;
        } else {
            self.pages.push(page);
        }
        self.blocks.push(block);
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
        let page = Arc::get_mut(&mut self.pages[position / TOKENS]);
        debug_assert!(page.is_some(), "a page that others have is full");
        let Some(page) = page.map(|page| &mut page[layer * shape.kv_heads * shape.head()..]) else { return };
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
        let own = self.pages.split_off(self.blocks.len());
        state.used -= own.len();
        state.idle.extend(own);
        self.pages.clear();
        for block in self.blocks.drain(..).rev() {
            let last = state.prefixes.release(block);
            state.used -= usize::from(last);
        }
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

    #[test]
    fn full_pages_are_shared_and_stay_until_their_memory_is_needed() {
        let shape = PageShape { layers: 1, kv_heads: 1, head_dim: 2 };
        let pool = Pool::new(shape, 4 * shape.page_bytes());
        let tokens: Vec<u32> = (0..40).collect();
        let mut one = pool.cache();
        assert_eq!(one.reuse(&tokens), 0);
        assert!(one.make_room(40));
        one.extend(40);
        for position in 0..40 {
            one.write(0, position, &[position as f32; 2], &[-(position as f32); 2]);
        }
        one.publish(&tokens);
        assert_eq!((one.blocks.len(), pool.used(), pool.made()), (2, 3, 3));
        // A second that begins alike has its first page, beside the one it reserved before it looked.
        let (mut two, mut other) = (pool.cache(), tokens.clone());
        other[20] = 99;
        assert!(two.make_room(10));
        assert_eq!((pool.used(), two.reuse(&other), two.len(), pool.used()), (4, 16, 16, 3));
        let values = |cache: &Cache| cache.head(0, 0).next().map(|(_, values)| values.to_vec());
        assert_eq!(values(&two), values(&one));
        assert_eq!(two.reuse(&other), 0, "the next one differs");
        drop(two);
        // Of all that it wrote a third may have all but the last token.
        let mut three = pool.cache();
        assert_eq!((three.reuse(&tokens[..32]), three.reuse(&tokens[..33])), (16, 16));
        drop(one);
        assert_eq!((pool.used(), pool.made()), (2, 4));
        drop(three);
        assert_eq!((pool.used(), pool.made()), (0, 4));
        // Two pages hold nothing; the third that is needed is the end of the chain.
        let mut four = pool.cache();
        assert!(four.make_room(48));
        assert_eq!((pool.used(), pool.made()), (3, 4));
        assert!(!four.make_room(80), "there are four pages");
        let mut five = pool.cache();
        assert_eq!(five.reuse(&tokens), 16);
        assert_eq!((pool.used(), pool.made()), (4, 4));
        drop(four);
        // What is written into a page that was another's is nobody else's.
        assert!(five.make_room(16));
        five.extend(1);
        five.write(0, 16, &[7.0; 2], &[8.0; 2]);
        assert_eq!(pool.used(), 2);
    }

    #[test]
    fn the_same_read_twice_at_a_time_is_kept_once() {
        let shape = PageShape { layers: 1, kv_heads: 1, head_dim: 2 };
        let pool = Pool::new(shape, 8 * shape.page_bytes());
        let tokens: Vec<u32> = (0..20).collect();
        let mut caches = [pool.cache(), pool.cache()];
        for cache in &mut caches {
            assert_eq!(cache.reuse(&tokens), 0);
            assert!(cache.make_room(20));
            cache.extend(20);
        }
        assert_eq!(pool.used(), 4);
        for cache in &mut caches {
            cache.publish(&tokens);
            cache.publish(&tokens);
        }
        assert_eq!((pool.used(), pool.made()), (3, 4));
        drop(caches);
        assert_eq!((pool.used(), pool.made()), (0, 4));
    }
}
