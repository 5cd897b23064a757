//! RFC 6455 over real sockets, frame by frame and in pieces of any size: the cases of the Autobahn test suite's list, as far as
//! a server shows them that is no echo. Each row names the suite's cases and the section of the RFC that they hold to.

mod closing;
mod fragmentation;
mod framing;
mod limits;
mod table;
mod utf8;
mod wire;
