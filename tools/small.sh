# To be sourced: what makes packaged programs smaller than cargo's own way of linking. lld folds functions whose code is
# the same, of which generic Rust has many, and for x86-64 packs relocations, which glibc reads since 2.36 (Debian 12,
# Ubuntu 24.04; JetPack 6 has 2.35). rustc brings lld along; where it does not, programs are linked as elsewhere.
lld=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/gcc-ld
small=
[ ! -x "$lld/ld.lld" ] || small="-Clink-arg=-fuse-ld=lld -Clink-arg=-B$lld -Clink-arg=-Wl,--icf=all"
case ${target:-${triple:-$(rustc -vV | sed -n 's/^host: //p')}} in
x86_64-*) [ -z "$small" ] || small="$small -Clink-arg=-Wl,-z,pack-relative-relocs" ;;
esac
