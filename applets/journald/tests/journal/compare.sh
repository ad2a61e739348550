# compare.sh PROGRAMS FOLDER: sends the same messages to systemd's journald and to ours, and leaves what either
# journalctl prints in FOLDER/real and FOLDER/ours. It runs in a mount namespace of its own.
programs=$1 folder=$2
export TZ=UTC
mount -t tmpfs tmpfs /run
# Both print the same date: not a minute before midnight.
while [ $(($(date +%s) % 86400)) -ge 86340 ]; do sleep 1; done

# Sends everything, one socket after the other, as nothing orders messages on different sockets. The arguments
# are the journalctl that shows what has arrived. A sender stays until then, so that its name can be looked up.
messages() {
  systemd-cat -t cat -p warning bash -c '
    echo plain
    printf "tab\there\n"
    printf "\e[31mred\e[0m x\n"
    printf "bell\a\n"
    printf "bad \xff byte\n"
    printf "<3>level\n"
    printf "  spaces at both ends  \n\n"
    printf "zero\0byte\n"
    echo end of stream'
  wait_for "end of stream" "$@"
  python3 - <<'PYTHON' &
import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("/run/systemd/journal/socket")
for message in [
    b"MESSAGE\n\x0e\0\0\0\0\0\0\0one\ntwo\nthree\n\nSYSLOG_IDENTIFIER=native\nPRIORITY=2\n",
    b"PRIORITY=3\nSYSLOG_IDENTIFIER=nomessage\n",
    b"MESSAGE=twice\nA=1\nA=2\nSYSLOG_IDENTIFIER=twice\n",
    b"MESSAGE=\nSYSLOG_IDENTIFIER=empty\n",
    b"MESSAGE=" + b"y" * 2000 + b"\a\nSYSLOG_IDENTIFIER=blob\n",
    b"MESSAGE=end of native\nSYSLOG_IDENTIFIER=native\n",
]:
    s.send(message)
time.sleep(300)
PYTHON
  wait_for "end of native" "$@"
  kill $!
  python3 - <<'PYTHON' &
import socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("/run/systemd/journal/dev-log")
for message in [
    b"<13>Nov 20 23:59:15 tag[12]: hello: you",
    b"<30>nocolon here",
    b"<86>  spaced: x  ",
    b"nothing",
    b"<13>Nov 20 23:59:15 host tag: y",
    b"<13>end of syslog",
]:
    s.send(message)
time.sleep(300)
PYTHON
  wait_for "end of syslog" "$@"
  kill $!
}

# Times and process ids differ from run to run, and with the ids' digits the indent of further lines.
show() {
  for format in short short-iso short-precise short-full short-unix cat; do
    for all in "" -a; do
      echo "== $format $all"
      "$@" -q -o $format $all --no-pager _TRANSPORT=stdout _TRANSPORT=journal _TRANSPORT=syslog |
        LC_ALL=C sed -E 's/[0-9]{2}:[0-9]{2}:[0-9]{2}/TIME/; s/^[0-9]{10}\.[0-9]{6}/UNIX/; s/TIME\.[0-9]{6}/TIME/
          s/\[[0-9]+\]/[PID]/; s/^ {20,}/INDENT /; / systemd-journald\[/d'
    done
  done
}

# wait_for TEXT JOURNALCTL...: asks until a message with this text is there.
wait_for() {
  local text=$1
  shift
  for _ in $(seq 600); do
    ! "$@" -q --no-pager -o cat 2>/dev/null | grep -aqx "$text" || return 0
    sleep 0.05
  done
  return 1
}

wait_socket() {
  for _ in $(seq 600); do [ ! -S "$1" ] || return 0; sleep 0.05; done
  return 1
}

mkdir -p /run/log/journal
/lib/systemd/systemd-journald 2>/dev/null & daemon=$!
trap 'kill $daemon' EXIT
for name in stdout socket dev-log; do wait_socket /run/systemd/journal/$name; done
sleep 0.3
messages journalctl
show journalctl >"$folder/real"
kill $daemon; wait $daemon || true

rm -rf /run/systemd/journal
"$programs" journald --dev-log none --kmsg none & daemon=$!
wait_socket /run/minke/journald.sock && wait_socket /run/systemd/journal/dev-log
messages "$programs" journalctl
show "$programs" journalctl >"$folder/ours"
