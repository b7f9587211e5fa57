# Runs a server and outlives the process that started it by a moment, to take the server down with it.
#
# Usage: LOCAL_STACK_GUARD="$(cat guard.sh)" sh -c 'eval "$LOCAL_STACK_GUARD"' guard SIGNAL SECONDS COMMAND...
#
# Standard input is a pipe that the launcher holds open and never writes to. However the launcher ends,
# kill -9 included, the pipe ends too: the server gets SIGNAL, and after SECONDS the whole process group
# is killed. Standard output gets the server's process id as its only line; the server writes to
# standard error. Ends with the server, and with its status.
signal=$1 bound=$2
shift 2
unset LOCAL_STACK_GUARD
# A background command's standard input is /dev/null, so the pipe is kept under another number.
exec 3<&0
"$@" </dev/null >&2 3<&- &
server=$!
echo "$server"
exec >&-
(
    while read -r _; do :; done
    kill -s "$signal" "$server"
    while [ "$bound" -gt 0 ] && kill -0 "$server"; do
        sleep 1
        bound=$((bound - 1))
    done
    kill -s KILL 0
) <&3 3<&- 2>/dev/null &
watcher=$!
exec 3<&-
wait "$server"
status=$?
# The server's id may soon be another process's: nobody may signal it from now on.
{
    kill "$watcher"
    wait "$watcher"
} 2>/dev/null
exit "$status"
