#!/bin/sh
# Runs `dualface-client run ...` again where another try can help: after its server was lost (exit
# code 3) or after it was killed. Faulty videos (1), a wrong command (2) and a stop (130, 143) end it
# with that exit code; other commands run once. With --resume, a try does only what is missing.
set -u
tries=${DUALFACE_TRIES:-5}
pause_s=${DUALFACE_TRY_PAUSE_S:-5}
[ "${1:-}" = run ] || exec dualface-client "$@"

child=
stopped=
# `kill` says nothing: the client may have ended just before.
stop() {
    stopped=yes
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap stop TERM INT

n=1
while :; do
    dualface-client "$@" &
    child=$!
    [ -z "$stopped" ] || kill -TERM "$child" 2>/dev/null # a stop that came before its id was known
    wait "$child"
    code=$?
    # A signal ends `wait` before the client has ended.
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
        code=$?
    done
    case $code in 0 | 1 | 2 | 130 | 143) exit "$code" ;; esac
    [ -z "$stopped" ] && [ "$n" -lt "$tries" ] || exit "$code"
    echo "exit code $code: try $((n += 1)) of $tries in $pause_s s" >&2
    child=
    sleep "$pause_s" &
    wait $!
    [ -z "$stopped" ] || exit 143
done
