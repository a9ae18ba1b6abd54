/* System calls on non-blocking sockets, for the data path. What the socket module adds to each (a lock that is given
   back, a timeout, an exception where there is nothing to do) costs as much as a small call itself. io_twin.py does the
   same in Python and says what each function returns; the tests hold both to it. The interpreter's lock is held. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BATCH 32
#define DATAGRAM 65536 /* more than a datagram holds */
#define RETRY(result, call) do { result = call; } while (result < 0 && errno == EINTR)

static char buffers[BATCH][DATAGRAM]; /* a page that is never written to takes no memory */
static struct sockaddr_storage addresses[BATCH];
static struct iovec pieces[BATCH];
static struct mmsghdr headers[BATCH];

static PyObject *failed(void) { return errno == EAGAIN ? Py_NewRef(Py_None) : PyErr_SetFromErrno(PyExc_OSError); }

static PyObject *counted(Py_ssize_t n) { return n < 0 && errno != EAGAIN ? failed() : PyLong_FromSsize_t(n < 0 ? 0 : n); }

/* The descriptor that is the first of so many arguments, and from `size` on, if there is one, a size as the last. */
static int take(PyObject *const *args, Py_ssize_t count, Py_ssize_t wanted, Py_ssize_t *size, Py_ssize_t most)
{
    if (count != wanted)
        return PyErr_Format(PyExc_TypeError, "%zd arguments are needed", wanted), -1;
    if (size != NULL && ((*size = PyLong_AsSsize_t(args[count - 1])) <= 0 || *size > most))
        return PyErr_Occurred() ? -1 : (PyErr_Format(PyExc_ValueError, "a size from 1 to %zd is needed", most), -1);
    return PyObject_AsFileDescriptor(args[0]);
}

static PyObject *io_recv(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t size, got;
    int fd = take(args, count, 2, &size, INT_MAX);
    PyObject *data = fd < 0 || size <= DATAGRAM ? NULL : PyBytes_FromStringAndSize(NULL, size);
    if (fd < 0 || (size > DATAGRAM && data == NULL))
        return NULL;
    RETRY(got, recv(fd, data == NULL ? buffers[0] : PyBytes_AS_STRING(data), size, 0));
    if (got >= 0 && data == NULL)
        return PyBytes_FromStringAndSize(buffers[0], got);
    if (got >= 0)
        return _PyBytes_Resize(&data, got), data;
    Py_XDECREF(data);
    return failed();
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
    if (fd < 0 || (peer = PyObject_AsFileDescriptor(args[1])) < 0)
        return NULL;
    RETRY(got, recv(fd, buffers[0], size, 0));
    if (got < 0)
        return failed();
    RETRY(sent, got == 0 ? 0 : send(peer, buffers[0], got, MSG_NOSIGNAL));
    if (sent == got)
        return PyLong_FromSsize_t(got);
    int error = sent < 0 && errno != EAGAIN ? errno : 0;
    sent = sent < 0 ? 0 : sent;
    return Py_BuildValue("(ny#i)", got, buffers[0] + sent, got - sent, error);
}

static PyObject *io_shutdown(PyObject *module, PyObject *sock)
{
    int fd = PyObject_AsFileDescriptor(sock);
    return fd < 0 ? NULL : shutdown(fd, SHUT_WR) < 0 ? failed() : Py_NewRef(Py_None);
}

static PyObject *io_accept4(PyObject *module, PyObject *listening)
{
    union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; struct sockaddr_un un; } from = {.any.sa_family = AF_UNSPEC};
    socklen_t size = sizeof from;
    char host[INET6_ADDRSTRLEN] = "";
    int accepted, fd = PyObject_AsFileDescriptor(listening);
    if (fd < 0)
        return NULL;
    RETRY(accepted, accept4(fd, &from.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (accepted < 0)
        return failed();
    if (from.any.sa_family == AF_UNIX) /* it has no address; it is on this machine */
        from.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int is_v6 = from.any.sa_family == AF_INET6;
    inet_ntop(from.any.sa_family, is_v6 ? (void *)&from.v6.sin6_addr : (void *)&from.v4.sin_addr, host, sizeof host);
    PyObject *found = Py_BuildValue("(isi)", accepted, host, ntohs(is_v6 ? from.v6.sin6_port : from.v4.sin_port));
    if (found == NULL)
        close(accepted);
    return found;
}

static PyObject *io_recvmmsg(PyObject *module, PyObject *sock)
{
    int got, fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0)
        return NULL;
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){buffers[i], DATAGRAM};
        headers[i].msg_hdr = (struct msghdr){&addresses[i], sizeof addresses[i], &pieces[i], 1, NULL, 0, 0};
    }
    RETRY(got, recvmmsg(fd, headers, BATCH, 0, NULL));
    if (got < 0 && errno != EAGAIN)
        return failed();
    PyObject *found = PyList_New(0);
    for (int i = 0; found != NULL && i < got; i++) {
        PyObject *datagram = Py_BuildValue("(y#y#)", buffers[i], (Py_ssize_t)headers[i].msg_len, &addresses[i],
                                           (Py_ssize_t)headers[i].msg_hdr.msg_namelen);
        if (datagram == NULL || PyList_Append(found, datagram) < 0)
            Py_CLEAR(found);
        Py_XDECREF(datagram);
    }
    return found;
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
    if (datagrams == NULL)
        return NULL;
    RETRY(sent, batch == 0 ? 0 : sendmmsg(fd, headers, batch, MSG_NOSIGNAL));
    Py_DECREF(datagrams);
    return counted(sent);
}

#define FAST(name) {#name, (PyCFunction)(void (*)(void))io_##name, METH_FASTCALL, NULL}
static PyMethodDef functions[] = {FAST(recv), FAST(send), FAST(copy), {"shutdown", io_shutdown, METH_O, NULL},
    {"accept4", io_accept4, METH_O, NULL}, {"recvmmsg", io_recvmmsg, METH_O, NULL}, FAST(sendmmsg), {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_io", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__io(void) { return PyModule_Create(&definition); }
