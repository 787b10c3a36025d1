// Serves what a launch line makes at rtsp://127.0.0.1:PORT/live: rtsp PORT LINE
#include <gst/rtsp-server/rtsp-server.h>

int main(int count, char **words) {
    gst_init(NULL, NULL);
    if (count != 3) {
        g_printerr("rtsp PORT LINE\n");
        return 2;
    }
    GstRTSPServer *server = gst_rtsp_server_new();
    gst_rtsp_server_set_address(server, "127.0.0.1");
    gst_rtsp_server_set_service(server, words[1]);
    GstRTSPMediaFactory *factory = gst_rtsp_media_factory_new();
    gst_rtsp_media_factory_set_launch(factory, words[2]);
    gst_rtsp_media_factory_set_shared(factory, TRUE);
    GstRTSPMountPoints *mounts = gst_rtsp_server_get_mount_points(server);
    gst_rtsp_mount_points_add_factory(mounts, "/live", factory);
    g_object_unref(mounts);
    if (gst_rtsp_server_attach(server, NULL) == 0) {
        g_printerr("port %s is taken\n", words[1]);
        return 1;
    }
    g_main_loop_run(g_main_loop_new(NULL, FALSE));
    return 0;
}
