# Two children with two children each; a token runs through all of them by pipes, again and again.
use strict; use warnings; use IO::Handle;
$| = 1;
my ($rounds, $wrong) = (0, 0);

# link(READ, WRITE): passes numbers on, one higher each.
sub pass {
    my ($in, $out) = @_;
    $out->autoflush(1);
    while (my $n = <$in>) { chomp $n; print $out $n + 1, "\n" }
}

# The ring: parent -> child -> its two children -> next child ... -> parent.
pipe(my $first, my $start) or die; $start->autoflush(1);
my $in = $first;
my (@pids, @grand);
pipe(my $tell, my $told) or die; $told->autoflush(1);
for my $c (1 .. 2) {
    pipe(my $next, my $out) or die;
    my $pid = fork // die;
    if (!$pid) {
        close $start; close $next; close $tell;
        pipe(my $r1, my $w1) or die; pipe(my $r2, my $w2) or die;
        for my $g (1 .. 2) {
            my $pid = fork // die;
            if (!$pid) {
                close $told;
                if ($g == 1) { close $w1; close $r2; close $out; pass($r1, $w2) } else { close $w1; close $w2; close $r1; pass($r2, $out) }
                exit 3;
            }
            print $told "$pid\n";
        }
        close $r1; close $r2; close $w2; close $out; close $told;
        pass($in, $w1);
        close $w1;
        wait for 1 .. 2;
        exit 3;
    }
    push @pids, $pid;
    close $out; close $in;
    $in = $next;
}
close $told;
push @grand, $_ while defined($_ = <$tell>) and chomp;
my $pids = join " ", @pids, sort { $a <=> $b } @grand;

# The parent turns the ring and answers questions between two rounds.
my $n = 0;
my $ready = '';
while (1) {
    print $start "$n\n";
    my $back = <$in>; chomp $back;
    $wrong++ if $back != $n + 6;
    $n = $back; $rounds++;
    my $set = ''; vec($set, 0, 1) = 1;
    next unless select($set, undef, undef, 0.0005);
    my $line = <STDIN>; last unless defined $line; chomp $line;
    last if $line eq 'end';
    my $alive = grep { kill 0, $_ } @pids, @grand;
    print qq(answer $line {"Rounds": $rounds, "Wrong": $wrong, "Children": $alive, "Pids": "$pids"}\n);
}
close $start;
my $left = <$in>; # the end comes round, too
my $status;
for (@pids) { waitpid($_, 0); $status = $? >> 8 }
print "ended: ", @pids + @grand, " children, status $status of the last\n";
<STDIN>;
