package upstream

import (
	"time"

	"posthorn/socket"
)

// patience has connections end when their peer has vanished, after at most
// deadPeer. In a quiet connection keepalives begin after a quarter of it, and a
// third unanswered one is too many: that is half of it. What is sent just before
// that has the other half to be acknowledged.
func patience(deadPeer time.Duration) socket.Patience {
	return socket.Patience{Idle: deadPeer / 4, Interval: deadPeer / 12, Unanswered: deadPeer / 2}
}
