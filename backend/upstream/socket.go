package upstream

import (
	"net"
	"time"
)

// dialer returns one whose connections end when their peer has vanished, after
// at most deadPeer. In a quiet connection keepalives begin after a quarter of
// it, and a third unanswered one is too many: that is half of it. What is sent
// just before that has TCP_USER_TIMEOUT, the other half, to be acknowledged.
// (Linux lets that option decide about keepalives too: were it shorter than
// the quiet before them, the first lost one would end the connection.)
func dialer(deadPeer time.Duration) net.Dialer {
	return net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: deadPeer / 4, Interval: deadPeer / 12, Count: 3},
		Control:         control(deadPeer / 2),
	}
}
