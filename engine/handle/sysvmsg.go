package handle

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"hither/engine/image"
)

// A message queue of System V: its limit and what waits in it. Threads that wait
// in msgrcv or msgsnd make the call again.

const (
	messageCopy   = 0o40000 // MSG_COPY: the message of this number, which stays
	messageCut    = 0o10000 // MSG_NOERROR
	queueCountAt  = 80      // msg_qnum of struct msqid64_ds
	queueLimitAt  = 88      // msg_qbytes
	messageHeader = 8       // mtype of struct msgbuf
)

func (v *SystemV) addQueue(c *caller, s *status) error {
	q := image.Queue{SystemV: s.SystemV, Limit: le.Uint64(s.data[queueLimitAt:])}
	count := le.Uint64(s.data[queueCountAt:])
	if count > image.MaxMessages {
		return refuse("have them read, and try again", "%d messages in one queue of System V", count)
	}
	for i := range count {
		n, err := c.call(unix.SYS_MSGRCV, uint64(s.ID), c.addr, image.MaxMessageSize+1, i, messageCopy|messageCut|ipcNowait)
		switch {
		case errors.Is(err, unix.ENOSYS):
			return refuse("move it to a host with another kernel by way of its files", "a message queue of System V, which this kernel (without CONFIG_CHECKPOINT_RESTORE) does not show")
		case errors.Is(err, unix.EACCES):
			return refuse(cureClose, "a message queue of System V that it may not read itself")
		case err != nil:
			return fmt.Errorf("reading message %d of queue %d: %w", i, s.ID, err)
		case n > image.MaxMessageSize:
			return refuse("have it read, and try again", "a message of more than %d bytes in a queue of System V", image.MaxMessageSize)
		}
		m := image.Message{Type: int64(le.Uint64(c.data)), Text: append([]byte(nil), c.data[messageHeader:messageHeader+n]...)}
		q.Messages = append(q.Messages, m)
	}
	v.Queues = append(v.Queues, q)
	return nil
}

// queues makes the message queues, and what waits in them.
func (b *binder) queues() error {
	for i := range b.app.Queues {
		q := &b.app.Queues[i]
		id := uint64(q.SystemV.ID)
		err := b.makeSystemV(queueFamily, &q.SystemV, func() (int, error) {
			return b.call(unix.SYS_MSGGET, uint64(uint32(q.SystemV.Key)), uint64(q.SystemV.Mode|ownerReadsWrite|ipcCreate|ipcExcl))
		})
		if err != nil {
			return err
		}
		for _, m := range q.Messages {
			le.PutUint64(b.data, uint64(m.Type))
			copy(b.data[messageHeader:], m.Text)
			if _, err := b.call(unix.SYS_MSGSND, id, b.addr, uint64(len(m.Text)), ipcNowait); err != nil {
				return fmt.Errorf("filling message queue %d: %w", id, err)
			}
		}
		err = b.setPerm(queueFamily, &q.SystemV, func(data []byte) { le.PutUint64(data[queueLimitAt:], q.Limit) })
		if err != nil {
			return err
		}
	}
	return nil
}
