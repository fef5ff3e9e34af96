//! Which pages of past tokens are there for prompts that begin alike. Pure.
//!
//! A page's keys and values depend on its tokens and on all before them. So pages are kept in a tree: a block is the tokens of one page after those of
//! the block before (Zheng et al., "SGLang", 2024, keep a radix tree of tokens; here its edges are whole pages). Who uses a block uses all before it. Those that nobody
//! uses are kept until their memory is needed; then those go first that were used longest ago, and of a chain the last.

use std::collections::{BTreeSet, HashMap};

use super::pages::TOKENS;

/// The number of a block; never used again.
pub(super) type Block = u64;

/// What a block is found by: the block before it, and its tokens.
type Key = (Option<Block>, [u32; TOKENS]);

/// All blocks there are, with their pages.
#[derive(Debug)]
pub(super) struct Prefixes<P> {
    blocks: HashMap<Block, Node<P>>,
    places: HashMap<Key, Block>,
    /// Those that nobody uses and none follows, by when they were used last.
    leaves: BTreeSet<(u64, Block)>,
    unused: usize,
    next: Block,
    /// Counts releases: the time by which blocks are old.
    released: u64,
}

#[derive(Debug)]
struct Node<P> {
    key: Key,
    page: P,
    users: usize,
    /// Blocks that follow it.
    followers: usize,
    used: u64,
}

impl<P> Default for Prefixes<P> {
    fn default() -> Self {
        Prefixes {
            blocks: HashMap::new(),
            places: HashMap::new(),
            leaves: BTreeSet::new(),
            unused: 0,
            next: 0,
            released: 0,
        }
    }
}

impl<P> Prefixes<P> {
    /// Blocks that nobody uses.
    pub(super) fn unused(&self) -> usize {
        self.unused
    }

    /// Begins to use the block of these tokens after that one, if it is there. Gives its page, and whether nobody else uses it.
    pub(super) fn take(&mut self, after: Option<Block>, tokens: [u32; TOKENS]) -> Option<(Block, &P, bool)> {
        let block = *self.places.get(&(after, tokens))?;
        let node = self.blocks.get_mut(&block)?;
        node.users += 1;
        if node.users == 1 {
            self.unused -= 1;
            self.leaves.remove(&(node.used, block));
        }
        Some((block, &node.page, node.users == 1))
    }

    /// Adds the block of these tokens after that one, which its caller uses, as this one.
    pub(super) fn add(&mut self, after: Option<Block>, tokens: [u32; TOKENS], page: P) -> Block {
        let block = self.next;
        self.next += 1;
        if let Some(before) = after.and_then(|before| self.blocks.get_mut(&before)) {
            before.followers += 1;
        }
        let key = (after, tokens);
        self.blocks.insert(block, Node { key, page, users: 1, followers: 0, used: 0 });
        let before = self.places.insert(key, block);
        debug_assert!(before.is_none(), "it was not there");
        block
    }

    /// Ends one use of a block; says whether it was the last.
    pub(super) fn release(&mut self, block: Block) -> bool {
        let Some(node) = self.blocks.get_mut(&block) else { return false };
        node.users -= 1;
        if node.users > 0 {
            return false;
        }
        self.released += 1;
        node.used = self.released;
        self.unused += 1;
        if node.followers == 0 {
            self.leaves.insert((node.used, block));
        }
        true
    }

    /// Forgets the block that nobody has used for longest, and gives its page.
    pub(super) fn evict(&mut self) -> Option<P> {
        let (_, block) = self.leaves.pop_first()?;
        let node = self.blocks.remove(&block)?;
        self.places.remove(&node.key);
        self.unused -= 1;
        if let Some(number) = node.key.0
            && let Some(before) = self.blocks.get_mut(&number)
        {
            before.followers -= 1;
            if before.users == 0 && before.followers == 0 {
                self.leaves.insert((before.used, number));
            }
        }
        Some(node.page)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(number: u32) -> [u32; TOKENS] {
        [number; TOKENS]
    }

    /// Uses a chain of blocks, adding those that are not there under the page numbers given; says which pages.
    fn walk(prefixes: &mut Prefixes<u32>, chain: &[u32], pages: &mut u32) -> (Vec<Block>, Vec<u32>) {
        let (mut blocks, mut used) = (Vec::new(), Vec::new());
        for number in chain {
            let after = blocks.last().copied();
            if let Some((block, page, _)) = prefixes.take(after, tokens(*number)) {
                used.push(*page);
                blocks.push(block);
            } else {
                *pages += 1;
                used.push(*pages);
                blocks.push(prefixes.add(after, tokens(*number), *pages));
            }
        }
        (blocks, used)
    }

    /// Ends the use of a chain.
    fn end(prefixes: &mut Prefixes<u32>, blocks: &[Block]) {
        for block in blocks.iter().rev() {
            prefixes.release(*block);
        }
    }

    #[test]
    fn chains_share_what_they_begin_with() {
        let (mut prefixes, mut pages) = (Prefixes::default(), 0);
        let (one, first) = walk(&mut prefixes, &[1, 2, 3], &mut pages);
        let (two, second) = walk(&mut prefixes, &[1, 2, 4], &mut pages);
        let (three, third) = walk(&mut prefixes, &[2, 3], &mut pages);
        assert_eq!((first, second), (vec![1, 2, 3], vec![1, 2, 4]));
        assert_eq!(third, [5, 6], "the same tokens after others are another block");
        assert_eq!((prefixes.unused(), prefixes.evict()), (0, None));
        let ends: Vec<bool> = one.iter().rev().map(|block| prefixes.release(*block)).collect();
        assert_eq!(ends, [true, false, false], "of the first only its end is not another's too");
        assert_eq!(prefixes.unused(), 1);
        for block in two.iter().chain(&three) {
            assert!(prefixes.release(*block));
        }
        assert_eq!(prefixes.unused(), 6);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_of_a_chain_the_last() {
        let (mut prefixes, mut pages) = (Prefixes::default(), 0);
        for chain in [[1, 2, 3], [1, 2, 4], [5, 6, 7]] {
            let (blocks, _) = walk(&mut prefixes, &chain, &mut pages);
            end(&mut prefixes, &blocks);
        }
        // The first is used once more.
        let (blocks, used) = walk(&mut prefixes, &[1, 2, 3], &mut pages);
        assert_eq!(used, [1, 2, 3]);
        assert_eq!(prefixes.evict(), Some(4), "before those of the third, which were used later");
        end(&mut prefixes, &blocks);
        let order: Vec<u32> = std::iter::from_fn(|| prefixes.evict()).collect();
        assert_eq!(order, [7, 6, 5, 3, 2, 1]);
        assert_eq!((prefixes.unused(), prefixes.blocks.len(), prefixes.places.len()), (0, 0, 0));
    }

    proptest! {
        /// Against a plain list of which chains are in use: pages in use are never given away, every page is somewhere, and once nothing is used all can be taken back.
        #[test]
        fn pages_in_use_stay_and_none_is_lost(
            steps in prop::collection::vec((0..4_u8, prop::collection::vec(0..3_u32, 1..4)), 1..60)
        ) {
            let (mut prefixes, mut pages) = (Prefixes::default(), 0);
            let (mut going, mut gone) = (Vec::<(Vec<Block>, Vec<u32>)>::new(), Vec::new());
            for (what, chain) in steps {
                match what {
                    0 | 1 => going.push(walk(&mut prefixes, &chain, &mut pages)),
                    2 if !going.is_empty() => {
                        let (blocks, _) = going.remove(chain[0] as usize % going.len());
                        end(&mut prefixes, &blocks);
                    }
                    _ => gone.extend(prefixes.evict()),
                }
                let mut used: Vec<u32> = going.iter().flat_map(|(_, pages)| pages.clone()).collect();
                used.sort_unstable();
                used.dedup();
                prop_assert!(used.iter().all(|page| !gone.contains(page)));
                prop_assert_eq!(used.len() + prefixes.unused() + gone.len(), pages as usize);
            }
            for (blocks, _) in going.drain(..) {
                end(&mut prefixes, &blocks);
            }
            gone.extend(std::iter::from_fn(|| prefixes.evict()));
            gone.sort_unstable();
            prop_assert_eq!(gone, (1..=pages).collect::<Vec<_>>());
        }
    }
}
