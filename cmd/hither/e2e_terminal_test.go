package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func TestBcKeepsItsVariables(t *testing.T) {
	l := theLab(t)
	l.needs(t, "bc")
	a := l.start(t, "bc", "bc", "-q")
	a.ask(t, "x = 6; y = 7; 1+1", `^2$`)
	a.ask(t, "define f(n) { return (n*x) }\r f(2)-11", `^1$`)
	a.ask(t, "scale = 50; z = sqrt(2); 2+1", `^3$`)
	n := 0
	a.tour(t, func(string) {
		n++
		a.ask(t, fmt.Sprintf("x*y*1000 + f(%d)", n), fmt.Sprintf(`^%d$`, 42000+6*n))
		a.ask(t, "z", `^1\.41421356237309504880168872420969807856967187537694$`)
	})
}

func TestBashKeepsJobsTrapsAndAPipeline(t *testing.T) {
	l := theLab(t)
	l.needs(t, "bash")
	a := l.start(t, "bash", "bash", "--norc", "--noprofile", "-i")
	s := a.attach(t)
	s.sees(t, `\$$`)
	s.line(t, `PS1='rea''dy> '; x=42; arr=(a "b c" d); declare -A m=([key]=value); f() { echo "f says $x $1"; }; trap 'echo "tra""pped"' USR1; cd /usr/lib; umask 027; set -o noclobber`)
	s.sees(t, `^ready>$`)
	// A pipeline that runs all the time: its end checks that no number gets lost on the way.
	s.line(t, `i=0; while :; do echo $((i++)); done | while read -r n; do [ "$n" = "$((last++))" ] || echo "$n" >/tmp/wrong; echo "$n" >|/tmp/count; done &`)
	s.sees(t, `^\[1\] \d+`)
	s.line(t, `bg=$!; perl -e '$| = 1; $n = 0; print "listens\n"; while (<STDIN>) { chomp; print "got $_ as number ", ++$n, "\n" }'`)
	s.sees(t, `^listens$`)
	s.line(t, `one`)
	s.sees(t, `^got one as number 1`)
	s.key(t, "C-z")
	s.sees(t, `^\[2\]\+  Stopped .*perl`)
	s.line(t, `echo "bg is $bg"`)
	bg := s.sees(t, `^bg is (\d+)`)[1]
	s.close()

	count := func() int {
		out := a.exec(t, "sh", "-c", `cat /tmp/count; test ! -e /tmp/wrong`)
		n, _ := strconv.Atoi(strings.TrimSpace(out))
		return n
	}
	number := 1
	a.tour(t, func(string) {
		s := a.attach(t)
		defer s.close()
		s.line(t, `clear; jobs; echo "bg $bg is ${!}; $x ${arr[1]} ${m[key]} $(pwd) $(umask)"; f again; kill -USR1 $$`)
		s.sees(t, `^\[1\]-  Running .*while`)
		s.sees(t, `^\[2\]\+  Stopped .*perl`)
		s.sees(t, fmt.Sprintf(`^bg %s is %s; 42 b c value /usr/lib 0027$`, bg, bg))
		s.sees(t, `^f says 42 again$`)
		s.sees(t, `^trapped$`)
		before := count()
		until(t, "the pipeline counting on", func() (bool, string) { n := count(); return n > before, fmt.Sprint(before, n) })
		number++
		s.line(t, `fg`)
		s.sees(t, `^perl -e`)
		s.line(t, fmt.Sprintf("word%d", number))
		s.sees(t, fmt.Sprintf(`^got word%d as number %d$`, number, number))
		s.key(t, "C-z")
		s.sees(t, fmt.Sprintf(`^got word%d .*\n(\^Z)?\s*\[2\]\+  Stopped .*\nready>$`, number))
		s.line(t, "clear")
		s.line(t, "jobs; echo do''ne")
		s.sees(t, `^done$`)
		s.sees(t, `^\[2\]\+  Stopped .*perl`)
	})
	s = a.attach(t)
	// To its end in the foreground: bash does not end while it holds a job for stopped, and "wait" does not wait
	// for such a one, even if it was killed.
	s.line(t, `fg`)
	s.sees(t, `^perl -e`)
	s.key(t, "C-d")
	s.line(t, `kill %1; wait; exit 7`)
	s.sees(t, `^\[ended with 7\]$`)
	a.ended = true
}

func TestVimKeepsUnsavedTextAndUndo(t *testing.T) {
	l := theLab(t)
	l.needs(t, "vim")
	l.put(t, "a", "vim.txt", "first\nsecond\n")
	a := l.start(t, "vim", "vim", "-N", "-u", "NONE", "/home/lab/vim.txt")
	s := a.attach(t)
	s.sees(t, `^second$`)
	s.enter(t, "ggOalpha")
	s.key(t, "Escape")
	s.enter(t, "obeta")
	s.key(t, "Escape")
	s.enter(t, `"qyyGogamma`)
	s.key(t, "Escape")
	s.sees(t, `^gamma$`)
	s.close()
	if got := l.cat(t, "a", "vim.txt"); got != "first\nsecond\n" {
		t.Fatalf("vim wrote what was not saved: %q", got)
	}

	a.move(t)
	s = a.attach(t)
	s.sees(t, `^alpha\nbeta\nfirst\nsecond\ngamma$`)
	s.enter(t, "u") // gamma goes
	s.seesNot(t, `^gamma$`)
	s.enter(t, "u")
	s.seesNot(t, `^beta$`)
	s.close()

	a.move(t)
	s = a.attach(t)
	s.sees(t, `^alpha\nfirst\nsecond$`)
	s.key(t, "C-r") // beta comes back
	s.sees(t, `^alpha\nbeta\nfirst\nsecond$`)
	s.enter(t, "Odelta")
	s.key(t, "Escape")
	s.enter(t, `G"qp`) // what was put away before the first move
	s.sees(t, `^second\nbeta$`)
	s.close()

	a.move(t)
	s = a.attach(t)
	s.sees(t, `^delta\nalpha\nbeta\nfirst\nsecond\nbeta$`)
	s.line(t, ":w")
	s.sees(t, `vim\.txt" 6L, .* written`)
	s.close()
	a.move(t)
	if got, want := l.cat(t, "a", "vim.txt"), "delta\nalpha\nbeta\nfirst\nsecond\nbeta\n"; got != want {
		t.Fatalf("saved on b and moved home: %q, want %q", got, want)
	}
	s = a.attach(t)
	s.line(t, ":q")
	s.sees(t, `^\[ended with 0\]$`)
	a.ended = true
	if left := l.on("a", "sh", "-c", "ls -A ~ | grep swp").out; left != "" {
		t.Errorf("vim left %s", left)
	}
}

func TestSqliteKeepsATransaction(t *testing.T) {
	l := theLab(t)
	l.needs(t, "sqlite3")
	a := l.start(t, "sqlite3", "sqlite3", ":memory:")
	s := a.attach(t)
	s.sees(t, `^sqlite>$`)
	s.line(t, "create table kept(n integer primary key, word text); insert into kept(word) values ('one'),('two');")
	s.line(t, "create temp table passing as select n*100 as c from kept;")
	s.line(t, "with recursive k(i) as (select 1 union all select i+1 from k where i < 20000) insert into passing select i from k;")
	s.line(t, "begin; insert into kept(word) values ('three'); savepoint s1; delete from kept where n = 1; select 'rows ' || count(*) from kept;")
	s.sees(t, `^rows 2$`)
	s.close()

	a.move(t)
	a.ask(t, "select 'words ' || group_concat(word) from kept; select 'sum ' || sum(c) from passing;", `^words two,three\s+.*sum 200010300$`)
	a.move(t)
	a.ask(t, "rollback to s1; insert into kept(word) values('four'); select 'words ' || group_concat(word) from kept;", `^words one,two,three,four$`)
	a.move(t)
	a.ask(t, "rollback; select 'words ' || group_concat(word) from kept; select 'changes ' || total_changes();", `^words one,two\s+.*changes \d+$`)
}

func TestBusyboxShGoesOn(t *testing.T) {
	l := theLab(t)
	l.needs(t, "busybox")
	a := l.start(t, "busybox", "busybox", "sh")
	s := a.attach(t)
	s.sees(t, `\$$`)
	s.close()
	a.ask(t, `n=1; g() { echo "g:$1:$n"; }; trap 'echo caught' USR2; (while :; do sleep 0.05; echo x >>/tmp/beats; done) & child=$!; echo sta""rted`, `^started$`)
	n := 1
	a.tour(t, func(string) {
		n++
		a.ask(t, `n=$((n+1)); g moved; kill -USR2 $$; kill -0 $child && echo child"" lives`, fmt.Sprintf(`^g:moved:%d\s+caught\s+child lives`, n))
		before := a.exec(t, "cat", "/tmp/beats")
		until(t, "the child going on", func() (bool, string) {
			now := a.exec(t, "cat", "/tmp/beats")
			return len(now) > len(before), fmt.Sprint(len(before), len(now))
		})
	})
}

func TestLessFollowsAFile(t *testing.T) {
	l := theLab(t)
	l.needs(t, "less")
	// The file is there before less is: which of the two comes first is not the shell's to say.
	a := l.start(t, "less", "sh", "-c", `: >/tmp/growing; i=0; while :; do i=$((i+1)); echo "entry $i"; sleep 0.005; done >/tmp/growing & exec less +F /tmp/growing`)
	last := 0
	// The last entry of the screen grows beyond what it was.
	follows := func(s *screen) {
		until(t, "less showing new entries", func() (bool, string) {
			text := s.text(t)
			at := strings.LastIndex(text, "entry ")
			if at < 0 {
				return false, text
			}
			n := 0
			fmt.Sscanf(text[at:], "entry %d", &n)
			if n < last+40 {
				return false, text
			}
			last = n
			return true, text
		})
	}
	s := a.attach(t)
	follows(s)
	s.close()
	a.tour(t, func(string) {
		s := a.attach(t)
		defer s.close()
		follows(s)
		follows(s)
		s.key(t, "C-c")
		s.enter(t, "g") // its beginning
		s.sees(t, `^entry 1$`)
		s.enter(t, "F")
		s.seesNot(t, `^entry 1$`)
	})
}
