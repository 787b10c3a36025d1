# To be sourced: what makes packaged programs smaller than cargo's own way of linking. lld folds functions whose code is
# the same, of which generic Rust has many. rustc brings lld along; where it does not, programs are linked as elsewhere.
lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/gcc-ld
small=
[ ! -x "$lld/ld.lld" ] || small="-Clink-arg=-fuse-ld=lld -Clink-arg=-B$lld -Clink-arg=-Wl,--icf=all"
