//! The machinery of a data core: its ring, its receive buffers, the mesh of
//! queues between cores, and the order of a turn's stages.
pub mod buffers;
pub mod mesh;
pub mod ring;
pub mod turn;
pub mod wake;
