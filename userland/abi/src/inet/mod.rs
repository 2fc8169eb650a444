//! Sockets of the internet families over `lo`.

mod connect;
mod counters;
mod datagram;
mod options;
mod ready;
mod stream;
mod support;
mod udplite;

pub use support::lo_up;

use crate::harness::Tests;

pub const TESTS: Tests = &[
    ("families", options::families),
    ("socket_options", options::socket_options),
    ("tcp_options", options::tcp_options),
    ("max_segment", options::max_segment),
    ("ip_options", options::ip_options),
    ("v6_options", options::v6_options),
    ("bind_errors", options::bind_errors),
    ("bind_reuse", options::bind_reuse),
    ("ephemeral", options::ephemeral),
    ("tcp_echo", stream::echo),
    ("tcp_echo_v6", stream::echo_v6),
    ("tcp_dual_stack", stream::dual_stack),
    ("tcp_names", stream::names),
    ("tcp_bulk", stream::bulk),
    ("tcp_half_close", stream::half_close),
    ("tcp_reset", stream::reset_by_unread),
    ("tcp_linger_zero", stream::linger_zero),
    ("tcp_pipe_error", stream::broken),
    ("tcp_unconnected", stream::unconnected),
    ("tcp_flags", stream::flags),
    ("tcp_peek_wrap", stream::peek),
    ("tcp_full", stream::full),
    ("tcp_queues", stream::queue_lengths),
    ("tcp_timeouts", stream::timeouts),
    ("tcp_sendfile", stream::sendfile_and_splice),
    ("tcp_fault", stream::faults),
    ("connect_refused", connect::refused),
    ("connect_nonblocking", connect::nonblocking),
    ("connect_again", connect::again),
    ("connect_self_states", connect::states),
    ("listen_backlog", connect::backlog),
    ("accept_errors", connect::accept_errors),
    ("listener_close", connect::listener_close),
    ("shutdown_listener", connect::shutdown_listener),
    ("churn", connect::churn),
    ("many", connect::many),
    ("reuseport", connect::reuseport),
    ("poll_stream", ready::poll_stream),
    ("poll_fresh", ready::poll_fresh),
    ("epoll_edge", ready::epoll_edge),
    ("epoll_connect", ready::epoll_connect),
    ("close_wakes", ready::shutdown_wakes),
    ("signals_interrupt", ready::signals_interrupt),
    ("udp_echo", datagram::echo),
    ("udp_v6", datagram::echo_v6),
    ("udp_connected", datagram::connected),
    ("udp_refused", datagram::refused),
    ("udp_sizes", datagram::sizes),
    ("udp_flags", datagram::flags),
    ("udp_many", datagram::many_messages),
    ("udp_control", datagram::control),
    ("udp_cork", datagram::cork),
    ("udp_multicast", datagram::multicast),
    ("udp_broadcast", datagram::broadcast_needs_leave),
    ("udp_shutdown", datagram::shut_down),
    ("udplite_echo", udplite::echo),
    ("udplite_coverage", udplite::coverage),
    ("icmp_ping", datagram::ping),
    ("raw_icmp", datagram::raw_icmp),
    ("raw_udp", datagram::raw_udp),
    ("counters_udp", counters::udp),
    ("counters_tcp", counters::tcp),
    ("counters_v6", counters::of_six),
];
