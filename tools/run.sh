# The sidecar and the server of this machine in the foreground; when one is told to end, both do.
# A sidecar that cannot start (one runs here already, say) leaves the server running: it polls the other.
sidecar='' server=''
trap 'kill -TERM $sidecar $server 2>/dev/null' INT TERM HUP QUIT
"$BIN/python" -m sidecar &
sidecar=$!
"$BIN/machines-server" serve &
server=$!
wait "$server"
status=$?
# A signal ends the wait above before the server has ended.
while kill -0 "$server" 2>/dev/null; do wait "$server"; status=$?; done
kill -TERM "$sidecar" 2>/dev/null
wait "$sidecar"
case $status in
  130 | 143) status=0 ;;  # told to end
esac
exit "$status"
