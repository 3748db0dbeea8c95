"""Full backups: a VM's image (an XVA as XAPI gave it) beside its restore point.

writer     a new image under a name nobody looks at
publish    image, checksum, restore point, in that order
notes      which images are on their way in or out, so that a crash leaves none that nobody deletes
checksum   the text of ``<ts>.xva.checksum``
reading    an image from beginning to end, digested on the way
verify     is it whole, and is it what was written?
"""
