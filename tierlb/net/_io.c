/* System calls on non-blocking sockets, as in io_twin.py, which says what each returns. What the socket module adds (a
   lock that is given back, a timeout, an exception where there is nothing to do) costs as much as a small call. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define BATCH 32
#define DATAGRAM 65536 /* more than a datagram holds */
#define RETRY(result, call) do { result = call; } while (result < 0 && errno == EINTR)
#define FD PyObject_AsFileDescriptor
enum { SPEAKS_FIRST = 1, HERE = 2, AT_RISK = 4 }; /* as in io_twin.py */
static char buffers[BATCH][DATAGRAM]; /* a page that is never written to takes no memory */
static struct sockaddr_storage addresses[BATCH];
static struct iovec pieces[BATCH]; static struct mmsghdr headers[BATCH];

static PyObject *failed(void) { return errno == EAGAIN ? Py_NewRef(Py_None) : PyErr_SetFromErrno(PyExc_OSError); }
static PyObject *counted(ssize_t n) { return n < 0 && errno != EAGAIN ? failed() : PyLong_FromSsize_t(n < 0 ? 0 : n); }
static PyObject *owned(int fd, PyObject *value) { return value == NULL && close(fd) == 0 ? NULL : value; }

/* The descriptor that is the first of so many arguments, and from `size` on, if there is one, a size as the last. */
static int take(PyObject *const *args, Py_ssize_t count, Py_ssize_t wanted, Py_ssize_t *size, Py_ssize_t most)
{
    if (count != wanted)
        return PyErr_Format(PyExc_TypeError, "%zd arguments are needed", wanted), -1;
    if (size != NULL && ((*size = PyLong_AsSsize_t(args[count - 1])) <= 0 || *size > most))
        return PyErr_Occurred() ? -1 : (PyErr_Format(PyExc_ValueError, "a size from 1 to %zd is needed", most), -1);
    return FD(args[0]);
}

static PyObject *io_recv(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t size, got;
    int fd = take(args, count, 2, &size, sizeof buffers);
    if (fd < 0)
        return NULL;
    RETRY(got, recv(fd, buffers, size, 0));
    return got < 0 ? failed() : PyBytes_FromStringAndSize(buffers[0], got);
}

static PyObject *io_send(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer data;
    Py_ssize_t sent;
    int fd = take(args, count, 2, NULL, 0);
    if (fd < 0 || PyObject_GetBuffer(args[1], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    RETRY(sent, send(fd, data.buf, data.len, MSG_NOSIGNAL));
    PyBuffer_Release(&data);
    return counted(sent);
}

static PyObject *io_copy(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t size, got, sent;
    int peer, fd = take(args, count, 3, &size, DATAGRAM);
    if (fd < 0 || (peer = FD(args[1])) < 0)
        return NULL;
    RETRY(got, recv(fd, buffers[0], size, 0));
    RETRY(sent, got <= 0 ? got : send(peer, buffers[0], got, MSG_NOSIGNAL));
    if (sent == got)
        return got < 0 ? failed() : PyLong_FromSsize_t(got);
    Py_ssize_t done = Py_MAX(sent, 0);
    return Py_BuildValue("(ny#i)", got, buffers[0] + done, got - done, sent < 0 && errno != EAGAIN ? errno : 0);
}

static PyObject *io_shutdown(PyObject *module, PyObject *sock) { return counted(shutdown(FD(sock), SHUT_WR)); }

static PyObject *io_connect(PyObject *module, PyObject *args)
{
    int flags, asker, error = 0;
    struct sockaddr *to, *own = (struct sockaddr *)addresses;
    socklen_t own_size = sizeof addresses[0];
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y#ii", &to, &size, &flags, &asker))
        return NULL;
    int fd = socket(size < 16 ? AF_UNSPEC : to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (flags & SPEAKS_FIRST || (asker >= 0 && recv(asker, buffers, 1, MSG_PEEK | MSG_DONTWAIT) > 0))
        setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &(int){0}, sizeof(int));
    if (connect(fd, to, size) < 0 && (!(flags & HERE) || errno != EINPROGRESS || connect(fd, to, size) < 0))
        error = errno == EALREADY ? EINPROGRESS : errno;
    if (flags & AT_RISK && getsockname(fd, own, &own_size) == 0 && size == own_size && memcmp(own, to, size) == 0)
        error = ECONNREFUSED, setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    if (error == 0 || error == EINPROGRESS)
        return owned(fd, Py_BuildValue("(ii)", fd, error));
    return close(fd), Py_BuildValue("(ii)", -1, error);
}

static PyObject *io_accept4(PyObject *module, PyObject *listening)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)addresses; /* of IPv6 the port is at the same place */
    socklen_t size = sizeof addresses[0];
    char host[INET6_ADDRSTRLEN] = "";
    int accepted, fd = FD(listening);
    if (fd < 0)
        return NULL;
    RETRY(accepted, accept4(fd, (struct sockaddr *)addresses, &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (accepted < 0)
        return failed();
    if (v4->sin_family == AF_UNIX) /* it has no address; it is on this machine */
        *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    void *at = v4->sin_family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)v4)->sin6_addr : &v4->sin_addr;
    inet_ntop(v4->sin_family, at, host, sizeof host);
    return owned(accepted, Py_BuildValue("(isi)", accepted, host, ntohs(v4->sin_port)));
}

static PyObject *io_recvmmsg(PyObject *module, PyObject *sock)
{
    int got, fd = FD(sock);
    if (fd < 0)
        return NULL;
    for (int i = 0; i < BATCH; i++)
        pieces[i] = (struct iovec){buffers[i], DATAGRAM},
        headers[i].msg_hdr = (struct msghdr){&addresses[i], sizeof addresses[i], &pieces[i], 1, NULL, 0, 0};
    RETRY(got, recvmmsg(fd, headers, BATCH, 0, NULL));
    PyObject *found = got < 0 && errno != EAGAIN ? failed() : PyList_New(got < 0 ? 0 : got);
    for (int i = 0; found != NULL && i < got; i++)
        PyList_SET_ITEM(found, i, Py_BuildValue("(y#y#)", buffers[i], (Py_ssize_t)headers[i].msg_len, &addresses[i],
                                                (Py_ssize_t)headers[i].msg_hdr.msg_namelen));
    return PyErr_Occurred() ? (Py_XDECREF(found), NULL) : found;
}

static PyObject *io_sendmmsg(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    int sent, batch = 0, fd = take(args, count, 2, NULL, 0);
    PyObject *datagrams = fd < 0 ? NULL : PySequence_Fast(args[1], "a sequence of datagrams is needed");
    for (; datagrams != NULL && batch < BATCH && batch < PySequence_Fast_GET_SIZE(datagrams); batch++) {
        struct msghdr *header = &headers[batch].msg_hdr;
        Py_ssize_t size = 0, address_size = 0;
        *header = (struct msghdr){NULL, 0, &pieces[batch], 1, NULL, 0, 0};
        if (!PyArg_Parse(PySequence_Fast_GET_ITEM(datagrams, batch), "(y#y#)", &pieces[batch].iov_base, &size,
                         &header->msg_name, &address_size))
            Py_CLEAR(datagrams);
        pieces[batch].iov_len = size, header->msg_namelen = address_size;
    }
    RETRY(sent, datagrams == NULL || batch == 0 ? 0 : sendmmsg(fd, headers, batch, MSG_NOSIGNAL));
    Py_XDECREF(datagrams);
    return datagrams == NULL ? NULL : counted(sent);
}

#define ONE(name) {#name, io_##name, METH_O, NULL}
#define FAST(name) {#name, (PyCFunction)(void (*)(void))io_##name, METH_FASTCALL, NULL}
static PyMethodDef functions[] = {FAST(recv), FAST(send), FAST(copy), FAST(sendmmsg), ONE(shutdown),
    ONE(accept4), ONE(recvmmsg), {"start_connect", io_connect, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_io", NULL, -1, functions, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__io(void) { return PyModule_Create(&definition); }
