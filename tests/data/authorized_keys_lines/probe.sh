# Asks this machine's sshd which of the keys in ./offered (one a line) it takes by ./authorized_keys, and prints their
# fingerprints. It asks as ssh does before it signs: sshd's "yes" then is its whole reading of the file. Run as root, in
# a directory that only root can write to.
set -eu
here=$(pwd)
port=2201
[ -e host_key ] || ssh-keygen -q -t ed25519 -N '' -f host_key
cat >sshd_config <<EOF
ListenAddress 127.0.0.1
Port $port
HostKey $here/host_key
PidFile none
UsePAM no
PermitRootLogin prohibit-password
AuthorizedKeysFile $here/authorized_keys
MaxAuthTries 1000000
LoginGraceTime 0
EOF
echo "PerSourcePenalties no" >penalties
cat sshd_config penalties >with_penalties
if /usr/sbin/sshd -t -f "$here/with_penalties" 2>/dev/null; then cp with_penalties sshd_config; fi
dss=''
if ssh -Q key | grep -qx ssh-dss; then dss='PubkeyAcceptedAlgorithms +ssh-dss'; fi
echo "$dss" >>sshd_config
mkdir -p /run/sshd
/usr/sbin/sshd -D -f "$here/sshd_config" -E "$here/log" &
sshd=$!
trap 'kill $sshd' EXIT
for _ in $(seq 100); do
    if ssh-keyscan -p $port 127.0.0.1 2>/dev/null | grep -q ed25519; then break; fi
    sleep 0.05
done
# ssh takes at most a hundred identities at once.
rm -rf keys && mkdir keys
(cd keys && split -l 1 -a 4 -d ../offered k && ls | sed "s,.*,IdentityFile $here/keys/&," | split -l 100 -a 4 -d - ../batch.)
for batch in batch.*; do
    { echo "$dss"; cat "$batch"; } >ssh_config
    ssh -v -F "$here/ssh_config" -p $port -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none \
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PreferredAuthentications=publickey \
        root@127.0.0.1 true </dev/null >answers 2>&1 && { echo "a login without a private key?" >&2; exit 1; }
    grep -q 'Permission denied' answers || { cat answers >&2; exit 1; }
    sed -n 's/^debug1: Server accepts key: .* \(SHA256:[A-Za-z0-9+\/]*\).*/\1/p' answers
    rm "$batch"
done
