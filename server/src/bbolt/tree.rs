//! A tree of pages, built from the left: when a page is full it is written, and named one level up.

use std::io::{self, Write};

use super::Pages;
use super::page::{Kind, Page};

/// A tree that takes pairs in ascending order.
#[derive(Debug, Default)]
pub(super) struct Tree {
    leaf: Page,
    /// From the leaves' parents up. A level begins with the second page of the one below.
    branches: Vec<Page>,
}

impl Tree {
    pub(super) fn add<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        key: &[u8],
        value: &[u8],
        flags: u32,
    ) -> io::Result<()> {
        if !self.leaf.fits(key.len() + value.len()) {
            let full = std::mem::take(&mut self.leaf);
            self.write(pages, 0, full)?;
        }
        self.leaf.add_pair(key, value, flags);
        Ok(())
    }

    /// Writes what is left. Returns the root.
    pub(super) fn finish<W: Write>(mut self, pages: &mut Pages<W>) -> io::Result<u64> {
        let mut last = std::mem::take(&mut self.leaf);
        let mut level = 0;
        // A page with no level above it is the root.
        while level < self.branches.len() {
            self.write(pages, level, last)?;
            last = std::mem::take(&mut self.branches[level]);
            level += 1;
        }
        pages.write(last)
    }

    /// Writes a page of the level below `level`, and names it there.
    fn write<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        level: usize,
        page: Page,
    ) -> io::Result<()> {
        let first = page.first_key().to_vec();
        let at = pages.write(page)?;
        if level == self.branches.len() {
            self.branches.push(Page::of(Kind::Branch));
        }
        if !self.branches[level].fits(first.len()) {
            let full = std::mem::replace(&mut self.branches[level], Page::of(Kind::Branch));
            self.write(pages, level + 1, full)?;
        }
        self.branches[level].add_child(&first, at);
        Ok(())
    }
}
