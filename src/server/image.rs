//! The whole keyspace replaced at one moment, on all cores.
//!
//! A transaction over all cores: each does its part when it is granted; when
//! all have, the coordinator puts the cut into the journal and releases them.
//! With nothing wanted it is a barrier: what was begun before has ended.

use std::sync::Arc;

use super::core::Core;
use super::msg::Msg;
use super::tx::{Kind, Plan, Tx, whole};
use crate::transaction::locks::Mode;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Nothing,
    /// The keyspace becomes empty.
    Flush,
    /// What was loaded beside the keyspace takes its place.
    Install,
}

/// What an image's transaction holds.
pub struct Image {
    pub cut: u64,
    pub want: Want,
}

impl Core {
    /// Orders an image. It is tried again later when too many transactions wait.
    pub fn submit_image(&mut self, cut: u64, want: Want) {
        let cores = self.shared.cores;
        let kind = Kind::Image(Image { cut, want });
        let ordered = self.submit_tx(super::applying::origin(self.id, 0), kind, |_, _| {
            let mut plan = Plan::default();
            let mode = if matches!(want, Want::Flush | Want::Install) { Mode::Exclusive } else { Mode::Shared };
            (0..cores).for_each(|c| plan.part(c).need = whole(mode));
            plan
        });
        if !ordered {
            self.tell_service(move |s| s.call(0, move |core| core.submit_image(cut, want)));
        }
    }

    /// Does this core's part.
    pub fn run_image(&mut self, tx: &Arc<Tx>, at: usize, image: &Image) -> Msg {
        match image.want {
            Want::Nothing => {}
            Want::Flush => self.drop_keyspace(),
            Want::Install => self.install_incoming(),
        }
        Msg::Done { tx: tx.clone(), part: at, reply: Vec::new(), spent: 0, journaled: false }
    }

    /// All cores have done their part: here is the cut.
    pub fn image_is_made(&mut self, image: &Image) {
        if self.fx.wants_stream {
            self.journal.cut(image.cut);
        }
        let cut = image.cut;
        self.tell_service(move |s| s.image_is_made(cut));
    }
}
