# Ends what runs in a folder, and removes the folder, once its owner lets go: sh -c "$(cat guard.sh)" guard FOLDER
#
# Standard input is a pipe whose other end only the owner holds. It closes it, or dies and the kernel closes it. The
# death signal of prctl(2) would come too early: at the end of the thread that started the server, a test's often.
folder=$1

# Servers and their children, orphans included, keep their working directory in their folder.
inside() {
    find /proc/[0-9]*/cwd -maxdepth 0 -lname "$folder*" | cut -d / -f 3
}

cat
# Not KILL at first: PostgreSQL would leave its shared memory behind. A frozen one wakes up to the waiting QUIT.
kill -s QUIT $(inside)
kill -s CONT $(inside)
rounds=200
while [ -n "$(inside)" ] && [ $((rounds -= 1)) -gt 0 ]; do sleep 0.05; done
kill -s KILL $(inside)
rm -rf "$folder"
