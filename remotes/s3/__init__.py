"""A remote on an object store that speaks S3: Amazon's, Ceph's, or anybody's who says so.

address       URLs in Xen Orchestra's form, and what they say about a bucket
client        boto3, set up so that any S3 understands it
requester     one request: counted, repeated when that may help, its failure explained
failures      what an answer of the store means
keys          names of objects and keys in the bucket
reading       objects and ranges of them, resumed when the connection breaks
uploading     an object of any length written in order, in parts
deleting      many at once, in the form that the store understands
conditions    whether the store keeps a promise that many do not: to refuse a name that is taken
remarks       what an operator should know: versions, locks, uploads that were left
remote        all of it as a remote

There are no directories, no renames and no writing in the middle: an object appears whole, or not at all.
"""
