# Creates a virtual environment for the Makefile with the Python that PYTHON names.
#   sh tools/environment.sh make FOLDER                 create it, again if the existing one is unusable
#   sh tools/environment.sh install FOLDER ARGUMENT...  install packages into it with pip
# It is usable if it and every installation were finished, PYTHON is the same, and it was not moved or copied.
folder=$2
made=$folder/.made
installing=$folder/.installing

# What identifies a Python; that of an environment is the one that created it.
who='import os, sys, sysconfig
print("%s %s" % (os.path.realpath(sys.executable), sysconfig.get_config_var("SOABI")))'

fail() {
  echo "machines-server: $*" >&2
  exit 1
}

# What identifies an environment: the Python that creates it, the one in it, and its path.
description() {
  "$PYTHON" -c "$who" && "$folder/bin/python" -c "import pip; $who" && (cd "$folder" && pwd -P)
}

check_python() {
  version=$("$PYTHON" -c 'import sys; sys.stdout.write("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) ||
    fail "$PYTHON cannot be run; install Python 3.11 or later, or name one: make PYTHON=python3.12"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or later is needed, and $PYTHON is $version; name another one: make PYTHON=python3.12"
}

case $1 in
  make)
    check_python
    [ ! -e "$installing" ] && [ -e "$made" ] && [ "$(description 2>/dev/null)" = "$(cat "$made")" ] && exit
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
      fail "$PYTHON lacks ensurepip or venv; on Debian and Ubuntu: apt-get install python${version%.*}-venv"
    [ ! -e "$folder" ] || echo "machines-server: $folder is unfinished, was moved, or belongs to another Python; creating it again" >&2
    rm -rf "$folder" || fail "$folder cannot be removed"
    "$PYTHON" -m venv "$folder" && found=$(description) || fail "$folder cannot be created"
    echo "$found" >"$made"
    ;;
  install)
    shift 2
    trap 'exit 130' INT TERM HUP QUIT
    : >"$installing" || exit
    "$folder/bin/python" -W ignore -m pip install --quiet --disable-pip-version-check "$@"
    status=$?
    # If pip exits by itself the environment is usable; if it is killed it may not be.
    [ "$status" -ge 128 ] || rm "$installing"
    exit "$status"
    ;;
esac
