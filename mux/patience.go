package mux

import "posthorn/socket"

// patience is for a client that has vanished: when nothing is under way it is
// asked whether it is still there after a third of DeadPeer, and every
// eighteenth; the kernel gives up once half of it has passed since it was last
// heard, which leaves room for two questions to be lost. What is under way has
// to be acknowledged within that half too. At worst something is sent just
// before the kernel would give up, so both make up DeadPeer.
func (l *Limits) patience() socket.Patience {
	return socket.Patience{Idle: l.DeadPeer / 3, Interval: l.DeadPeer / 18, Unanswered: l.DeadPeer / 2}
}
