package handle

var (
	tcpKind, udpKind, inotifyKind = &kind{name: kindTCP}, &kind{name: kindUDP}, &kind{name: kindInotify}
)
