# Everything an upgrade or a hand can do to the tree of odd.sh. $OUT is the directory elsewhere, $TMP one for scratch.
long=$(printf 'n%.0s' $(seq 255))

# A rewrite that neither size nor time gives away, in place and by another file
touch -r plain/numbers "$TMP/time"
tr 1 2 <plain/numbers >"$TMP/copy"; cat "$TMP/copy" >plain/numbers; touch -r "$TMP/time" plain/numbers
touch -r plain/a-chunk "$TMP/time"
head -c 1048576 /dev/urandom >"$TMP/copy"; mv "$TMP/copy" plain/a-chunk; touch -r "$TMP/time" plain/a-chunk
printf 'other\n' >plain/one
printf 'more' >>plain/large
printf 'not nothing' >plain/nothing
truncate -s 1000 across/large
rm "plain/$(printf '\377\376 not utf-8')" plain/-rf
printf 'changed\n' >"plain/$(printf 'new\nline\ttab\033escape\\back"quote%%s')"
printf 'changed\n' >"$long/$long/$long/$long"
touch plain/two

# Metadata alone
chmod 600 acl/file; setfacl -b acl/file; setfacl -k acl/inherits; setfacl -m u:7:rwx acl/inherits/child
setfacl -d -m u:9:rwx plain
setcap -r owned/capable; chown 0:0 owned/setuid owned/big-uid; chmod 777 owned/setgid owned/none
chown -h 0:0 links/owned
setfattr -x user.binary plain/two; setfattr -n user.added -v 1 plain/two
setfattr -x trusted.overlay.opaque plain/deep; setfattr -h -x trusted.of-a-link links/dangling
setfattr -n user.of-a-directory -v 2 other
chmod 777 read-only read-only/in closed; rm read-only/in/z; printf 'added' >read-only/in/added
chown 1:1 shared; chmod 755 shared sticky
touch -d '2020-01-01 UTC' times/oldest times/before-the-epoch times/after-2038 times empty
touch -h -d '2020-01-01 UTC' links/dangling
chmod 700 . ; chown 12:34 . ; setfattr -n user.on-the-root -v 1 .

# One kind in the place of another
rm plain/two; mkdir -p plain/two/in; printf 'x' >plain/two/in/it
rm -r plain/deep/deeper; printf 'a file now' >plain/deep/deeper
rm -r empty; mkfifo empty
rm -r other; ln -s "$OUT" other
rm -r acl/inherits; ln -s "$OUT/dir" acl/inherits
rm links/to-dir; mkdir -p links/to-dir/a/b; printf 'y' >links/to-dir/a/b/c
rm links/outside; printf 'z' >links/outside
rm links/dangling; ln -s elsewhere links/dangling
rm fifo; printf 'a file now' >fifo
rm null; mknod -m 666 null c 1 5
rm block; mkdir block
rm times/future; ln -s "$OUT/victim" times/future

# Things moved around
mv "plain/$(printf 'dir\201\n\002')" moved
mv owned/setuid owned/x; mv owned/setgid owned/setuid; mv owned/x owned/setgid
mv sparse renamed; mkdir sparse; mv renamed/dense-zeros sparse/
mv across/b plain/deep/b

# Hardlinks broken, and others made
cp -p across/a/hard "$TMP/copy"; mv "$TMP/copy" across/a/hard
ln -f plain/numbers across/a/hard-2
rm across/fifo
ln "$OUT/victim" plain/linked-to-the-outside

# Holes filled, in place and by a copy
mv renamed/hole sparse/hole
dd if=/dev/zero of=sparse/hole bs=64k count=16 seek=100 conv=notrunc status=none
head -c 3145728 /dev/urandom >sparse/only-a-hole; touch -r renamed/only-a-hole sparse/only-a-hole

# Added
mkdir -p added/a/b/c "$(printf 'added\n\377')"; chmod 0 added/a/b/c
printf 'x' >added/a/b/file; mkfifo added/fifo; mknod added/null c 1 3; ln -s "$OUT" added/link
printf 'x' >"$(printf 'added\n\377')/x"
printf 'x' >.hidden
mkdir nobody; chown 65534:65534 nobody; chmod 500 nobody
