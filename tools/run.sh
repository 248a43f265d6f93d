# Runs the sidecar and the server of this machine in the foreground until they are stopped together.
# If the sidecar cannot start, for example because one is running, the server goes on and polls that one.
sidecar='' server=''
trap 'kill -TERM $sidecar $server 2>/dev/null' INT TERM HUP QUIT
"$BIN/python" -m sidecar &
sidecar=$!
"$BIN/machines-server" serve &
server=$!
wait "$server"
status=$?
# A signal ends the wait above before the server has exited.
while kill -0 "$server" 2>/dev/null; do wait "$server"; status=$?; done
kill -TERM "$sidecar" 2>/dev/null
wait "$sidecar"
case $status in
  130 | 143) status=0 ;;  # stopped by a signal
esac
exit "$status"
