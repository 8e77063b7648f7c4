package handle

var inotifyKind = &kind{name: kindInotify}
